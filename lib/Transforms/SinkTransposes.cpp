//===- SinkTransposes.cpp - transposes go behind elementwise ops, where they cancel ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/Transpose.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/IndexingUtils.h"
#include "mlir/IR/PatternMatch.h"

namespace lowbit {
#define GEN_PASS_DEF_SINKTRANSPOSES
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

static Value transposed(OpBuilder &b, Location loc, Value value, ArrayRef<int64_t> permutation) {
  if (isIdentityPermutation(permutation))
    return value;
  SmallVector<OpFoldResult> from = tensor::getMixedSizes(b, loc, value);
  SmallVector<OpFoldResult> sizes = applyPermutation(ArrayRef<OpFoldResult>(from), permutation);
  Type element = cast<RankedTensorType>(value.getType()).getElementType();
  Value init = tensor::EmptyOp::create(b, loc, sizes, element);
  return linalg::TransposeOp::create(b, loc, value, init, permutation)->getResult(0);
}

/// On ops that have been moved for a transpose that another reader had already: not back again.
static constexpr llvm::StringLiteral kMoved = "lowbit.moved";

/// As replaceOp, whatever is known of the sizes.
static void replace(RewriterBase &rewriter, Operation *op, Value value) {
  Type type = op->getResult(0).getType();
  if (value.getType() != type)
    value = tensor::CastOp::create(rewriter, op->getLoc(), type, value);
  rewriter.replaceOp(op, value);
}

namespace {
struct SinkTransposes : public lowbit::impl::SinkTransposesBase<SinkTransposes> {
  void runOnOperation() override {
    IRRewriter rewriter(&getContext());
    // What one round leaves is in the way of at most what follows it.
    for (bool changed = true; changed;) {
      changed = false;
      SmallVector<Operation *> ops;
      getOperation()->walk([&](Operation *op) {
        if (isa<linalg::LinalgOp>(op))
          ops.push_back(op);
      });
      for (Operation *op : ops) {
        rewriter.setInsertionPoint(op);
        changed |= combine(rewriter, op) || swapWithPadding(rewriter, op) || sink(rewriter, op);
      }
    }
    getOperation()->walk([](Operation *op) { op->removeAttr(kMoved); });
  }

  bool combine(IRRewriter &rewriter, Operation *op);
  bool swapWithPadding(IRRewriter &rewriter, Operation *op);
  bool sink(IRRewriter &rewriter, Operation *op);
};
} // namespace

/// A transpose of a transpose is one, or none.
bool SinkTransposes::combine(IRRewriter &rewriter, Operation *op) {
  std::optional<SmallVector<int64_t>> second = asTranspose(op);
  if (!second || op->use_empty())
    return false;
  Operation *before = op->getOperand(0).getDefiningOp();
  std::optional<SmallVector<int64_t>> first = asTranspose(before);
  if (!first)
    return false;
  replace(rewriter, op,
          transposed(rewriter, op->getLoc(), before->getOperand(0),
                     applyPermutation(ArrayRef<int64_t>(*first), *second)));
  if (before->use_empty())
    rewriter.eraseOp(before);
  ++numCancelled;
  return true;
}

/// What is padded and then transposed is transposed and then padded: it may be a transpose itself.
bool SinkTransposes::swapWithPadding(IRRewriter &rewriter, Operation *op) {
  std::optional<SmallVector<int64_t>> permutation = asTranspose(op);
  auto insert = permutation ? op->getOperand(0).getDefiningOp<tensor::InsertSliceOp>() : nullptr;
  auto fill = insert ? insert.getDest().getDefiningOp<linalg::FillOp>() : nullptr;
  if (!fill || insert.getSourceType().getRank() != insert.getDestType().getRank() ||
      !fill.getOutputs()[0].getDefiningOp<tensor::EmptyOp>())
    return false;
  Location loc = op->getLoc();
  Value part = transposed(rewriter, loc, insert.getSource(), *permutation);
  SmallVector<OpFoldResult> from =
      fill.getOutputs()[0].getDefiningOp<tensor::EmptyOp>().getMixedSizes();
  SmallVector<OpFoldResult> sizes = applyPermutation(ArrayRef<OpFoldResult>(from), *permutation);
  Value whole =
      tensor::EmptyOp::create(rewriter, loc, sizes, insert.getDestType().getElementType());
  whole = linalg::FillOp::create(rewriter, loc, fill.getInputs()[0], whole).getResult(0);
  auto permuted = [&](SmallVector<OpFoldResult> list) {
    return applyPermutation(ArrayRef<OpFoldResult>(list), *permutation);
  };
  replace(rewriter, op,
          tensor::InsertSliceOp::create(rewriter, loc, part, whole,
                                        permuted(insert.getMixedOffsets()),
                                        permuted(insert.getMixedSizes()),
                                        permuted(insert.getMixedStrides())));
  return true;
}

/// The transpose by `permutation` of `value` that is already there when `at` runs.
static Value findTransposed(Value value, ArrayRef<int64_t> permutation, Operation *at) {
  for (Operation *user : value.getUsers())
    if (user->getBlock() == at->getBlock() && user->isBeforeInBlock(at))
      if (std::optional<SmallVector<int64_t>> found = asTranspose(user);
          found && llvm::equal(*found, permutation))
        return user->getResult(0);
  return {};
}

/// An elementwise op whose operands are transposes runs on what they are transposes of.
bool SinkTransposes::sink(IRRewriter &rewriter, Operation *op) {
  auto generic = dyn_cast<linalg::GenericOp>(op);
  if (!generic || !generic.hasPureTensorSemantics() || generic.getNumDpsInits() != 1 ||
      generic.getNumReductionLoops() || generic.hasIndexSemantics() || asTranspose(op) ||
      generic.payloadUsesValueFromOperand(generic.getDpsInitOperand(0)))
    return false;
  SmallVector<AffineMap> maps = generic.getIndexingMapsArray();
  if (!maps.back().isIdentity())
    return false;

  // All whole operands have to be there in the same other order.
  std::optional<SmallVector<int64_t>> permutation;
  for (Value input : generic.getDpsInputs())
    if (!permutation)
      permutation = asTranspose(input.getDefiningOp());
  if (!permutation || (int64_t)permutation->size() != (int64_t)generic.getNumLoops())
    return false;
  SmallVector<int64_t> inverse = invertPermutationVector(*permutation);
  SmallVector<Value> inputs;
  bool reused = false;
  for (OpOperand *operand : generic.getDpsInputOperands()) {
    AffineMap map = maps[operand->getOperandNumber()];
    Value input = operand->get();
    if (map.isPermutation() && map.getNumDims()) {
      if (!map.isIdentity())
        return false;
      std::optional<SmallVector<int64_t>> own = asTranspose(input.getDefiningOp());
      if (own && *own == *permutation) {
        input = input.getDefiningOp()->getOperand(0);
      } else {
        input = op->hasAttr(kMoved) ? Value() : findTransposed(input, inverse, op);
        if (!input)
          return false;
        reused = true;
      }
    }
    inputs.push_back(input);
  }

  // Loop d of the op was dim d of its result; it becomes loop permutation[d].
  Location loc = op->getLoc();
  SmallVector<AffineExpr> loops;
  for (int64_t to : *permutation)
    loops.push_back(rewriter.getAffineDimExpr(to));
  AffineMap renamed = AffineMap::get(loops.size(), 0, loops, &getContext());
  for (auto [i, map] : llvm::enumerate(maps))
    if (!map.isPermutation() || !map.getNumDims())
      maps[i] = map.compose(renamed);
  auto type = cast<RankedTensorType>(generic.getResult(0).getType());
  SmallVector<OpFoldResult> from =
      tensor::getMixedSizes(rewriter, loc, generic.getDpsInits()[0]);
  SmallVector<OpFoldResult> sizes =
      applyPermutation(ArrayRef<OpFoldResult>(from), ArrayRef<int64_t>(inverse));
  Value init = tensor::EmptyOp::create(rewriter, loc, sizes, type.getElementType());
  auto moved = linalg::GenericOp::create(rewriter, loc, init.getType(), inputs, init, maps,
                                         generic.getIteratorTypesArray());
  moved.getRegion().takeBody(generic.getRegion());
  if (reused)
    moved->setAttr(kMoved, rewriter.getUnitAttr());
  replace(rewriter, op, transposed(rewriter, loc, moved.getResult(0), *permutation));
  ++numSunk;
  return true;
}
