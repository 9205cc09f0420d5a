//===- FuseElementwise.cpp - elementwise ops into the readers that use each element once ---*- C++
//-*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Transforms/Passes.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Tensor/Transforms/Transforms.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace lowbit {
#define GEN_PASS_DEF_FUSEELEMENTWISE
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

/// The producer has no other reader, and this one visits each of its elements once.
static bool isReadOnce(OpOperand *operand) {
  Operation *producer = operand->get().getDefiningOp();
  if (!producer || !producer->hasOneUse())
    return false;
  auto reader = dyn_cast<linalg::LinalgOp>(operand->getOwner());
  auto computes = dyn_cast<linalg::LinalgOp>(producer);
  if (!reader || !computes)
    return true; // A reshape: nothing is computed.
  // A fill and the like cost nothing to repeat.
  if (computes.getNumDpsInputs() == 0 || computes.getRank(computes.getDpsInitOperand(0)) == 0)
    return true;
  return reader.getMatchingIndexingMap(operand).isPermutation();
}

namespace {
struct FuseElementwise : public lowbit::impl::FuseElementwiseBase<FuseElementwise> {
  using FuseElementwiseBase::FuseElementwiseBase;

  int64_t countOps() {
    int64_t count = 0;
    getOperation()->walk([&](linalg::LinalgOp) { ++count; });
    return count;
  }

  void runOnOperation() override {
    MLIRContext *context = &getContext();
    int64_t before = countOps();
    RewritePatternSet patterns(context);
    linalg::populateElementwiseOpsFusionPatterns(patterns, isReadOnce);
    linalg::populateFoldReshapeOpsByExpansionPatterns(patterns, isReadOnce);
    linalg::populateConstantFoldLinalgOperations(patterns, isReadOnce);
    tensor::populateBubbleUpExpandShapePatterns(patterns);
    affine::AffineApplyOp::getCanonicalizationPatterns(patterns, context);
    linalg::GenericOp::getCanonicalizationPatterns(patterns, context);
    tensor::ExpandShapeOp::getCanonicalizationPatterns(patterns, context);
    tensor::CollapseShapeOp::getCanonicalizationPatterns(patterns, context);
    context->getLoadedDialect<linalg::LinalgDialect>()->getCanonicalizationPatterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns),
                                     GreedyRewriteConfig().setUseTopDownTraversal())))
      return signalPassFailure();
    numFused += std::max<int64_t>(0, before - countOps());
  }
};
} // namespace
