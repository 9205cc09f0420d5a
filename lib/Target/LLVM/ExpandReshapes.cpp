//===- ExpandReshapes.cpp - views of several unknown dims ----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/LLVM/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace lowbit {
#define GEN_PASS_DEF_EXPANDRESHAPES
#include "lowbit/Target/LLVM/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

static bool hasVagueRun(memref::ExpandShapeOp op) {
  return llvm::any_of(op.getReassociationIndices(), [&](const ReassociationIndices &run) {
    return llvm::count_if(run, [&](int64_t d) { return op.getResultType().isDynamicDim(d); }) > 1;
  });
}

static OpFoldResult multiply(ImplicitLocOpBuilder &b, OpFoldResult x, OpFoldResult y) {
  std::optional<int64_t> left = getConstantIntValue(x), right = getConstantIntValue(y);
  if (left && right)
    return b.getIndexAttr(*left * *right);
  if (left == 1)
    return y;
  if (right == 1)
    return x;
  return arith::MulIOp::create(b, getValueOrCreateConstantIndexOp(b, b.getLoc(), x),
                               getValueOrCreateConstantIndexOp(b, b.getLoc(), y))
      .getResult();
}

namespace {
struct ExpandReshapes : public lowbit::impl::ExpandReshapesBase<ExpandReshapes> {
  void runOnOperation() override {
    SmallVector<memref::ExpandShapeOp> ops;
    getOperation().walk([&](memref::ExpandShapeOp op) {
      if (hasVagueRun(op))
        ops.push_back(op);
    });
    for (memref::ExpandShapeOp op : ops)
      expand(op);
  }

  void expand(memref::ExpandShapeOp op) {
    ImplicitLocOpBuilder b(op.getLoc(), op);
    auto source = memref::ExtractStridedMetadataOp::create(b, op.getSrc());
    SmallVector<int64_t> known;
    int64_t knownOffset;
    if (failed(op.getSrcType().getStridesAndOffset(known, knownOffset)))
      return;
    auto orConstant = [&](int64_t value, Value dynamic) -> OpFoldResult {
      return ShapedType::isDynamic(value) ? OpFoldResult(dynamic) : b.getIndexAttr(value);
    };
    SmallVector<OpFoldResult> sizes = op.getMixedOutputShape(), strides(sizes.size());
    for (auto [i, run] : llvm::enumerate(op.getReassociationIndices())) {
      OpFoldResult stride = orConstant(known[i], source.getStrides()[i]);
      for (int64_t d : llvm::reverse(run)) {
        strides[d] = stride;
        stride = multiply(b, stride, sizes[d]);
      }
    }
    OpFoldResult offset = orConstant(knownOffset, source.getOffset());
    Value view = memref::ReinterpretCastOp::create(b, op.getResultType(), source.getBaseBuffer(),
                                                   offset, sizes, strides);
    op.replaceAllUsesWith(view);
    op.erase();
    ++numExpanded;
  }
};
} // namespace
