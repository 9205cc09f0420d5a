//===- ExpandCopies.cpp - strided copies become loops ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/LLVM/Passes.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace lowbit {
#define GEN_PASS_DEF_EXPANDCOPIES
#include "lowbit/Target/LLVM/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

/// One block of memory by the rule of memref's own lowering, which calls a library function for the
/// rest: row-major, and where there is an offset of a static shape.
static bool isContiguous(MemRefType type) {
  if (type.getLayout().isIdentity())
    return true;
  return type.hasStaticShape() && type.getNumElements() > 0 &&
         type.areTrailingDimsContiguous(type.getRank());
}

namespace {
struct ExpandCopies : public lowbit::impl::ExpandCopiesBase<ExpandCopies> {
  void runOnOperation() override {
    getOperation().walk([&](memref::CopyOp copy) {
      auto source = dyn_cast<MemRefType>(copy.getSource().getType());
      auto target = dyn_cast<MemRefType>(copy.getTarget().getType());
      if (!source || !target || (isContiguous(source) && isContiguous(target)))
        return;
      OpBuilder builder(copy);
      AffineMap id = builder.getMultiDimIdentityMap(source.getRank());
      SmallVector<utils::IteratorType> loops(source.getRank(), utils::IteratorType::parallel);
      linalg::GenericOp::create(builder, copy.getLoc(), TypeRange(), copy.getSource(),
                                copy.getTarget(), ArrayRef<AffineMap>{id, id}, loops,
                                [](OpBuilder &nested, Location loc, ValueRange args) {
                                  linalg::YieldOp::create(nested, loc, args[0]);
                                });
      copy.erase();
      ++numExpanded;
    });
  }
};
} // namespace
