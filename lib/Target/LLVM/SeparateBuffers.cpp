//===- SeparateBuffers.cpp - a buffer of its own for every result ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Target/LLVM/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"

namespace lowbit {
#define GEN_PASS_DEF_SEPARATEBUFFERS
#include "lowbit/Target/LLVM/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct SeparateBuffers : public lowbit::impl::SeparateBuffersBase<SeparateBuffers> {
  void runOnOperation() override {
    bool waits = false;
    getOperation().walk([&](rt::ExchangeOp) { waits = true; });
    if (!waits)
      return;
    SmallVector<tensor::EmptyOp> shared;
    getOperation().walk([&](tensor::EmptyOp op) {
      if (!op->hasOneUse())
        shared.push_back(op);
    });
    for (tensor::EmptyOp op : shared)
      separate(op);
  }

  void separate(tensor::EmptyOp op) {
    for (OpOperand &use : llvm::make_early_inc_range(op->getUses())) {
      // Not within a loop: there every iteration would allocate.
      Operation *user = op->getBlock()->findAncestorOpInBlock(*use.getOwner());
      OpBuilder builder(user);
      use.set(builder.clone(*op)->getResult(0));
      ++numSeparated;
    }
    op.erase();
  }
};
} // namespace
