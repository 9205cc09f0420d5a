//===- Losses.cpp - the two losses over classes -----------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Normalization.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

namespace {
struct Loss {
  Lowering &l;
  Value target;
  Value ignored;   ///< The class that counts for nothing, an i64; null where there is none.
  Value classes;   ///< How many, an index.
  Type targetType; ///< As onnx says it.

  Value classAt(OpBuilder &b, Location loc, Value entry) {
    return castScalar(b, loc, entry, targetType, b.getI64Type());
  }
  Value isIgnored(OpBuilder &b, Location loc, Value wanted) {
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, wanted, ignored);
  }
  /// In range, whatever the target says.
  Value clamped(OpBuilder &b, Location loc, Value wanted) {
    Value at = arith::IndexCastOp::create(b, loc, b.getIndexType(), wanted);
    Value one = arith::ConstantIndexOp::create(b, loc, 1),
          zero = arith::ConstantIndexOp::create(b, loc, 0);
    at = arith::MinSIOp::create(b, loc, at, arith::SubIOp::create(b, loc, classes, one));
    return arith::MaxSIOp::create(b, loc, at, zero);
  }
  /// Fails the run where a class is neither ignored nor there.
  void checkTarget() {
    Value yes = tensor::FromElementsOp::create(l.b, RankedTensorType::get({}, l.b.getI1Type()),
                                               ValueRange{l.scalarInt(l.b.getI1Type(), 1)});
    unsigned rank = cast<RankedTensorType>(target.getType()).getRank();
    SmallVector<IteratorType> iterators(rank, IteratorType::reduction);
    Value all = l.generic(
        target, yes, {l.b.getMultiDimIdentityMap(rank), l.mapOf(rank, {})}, iterators,
        [&](OpBuilder &b, Location loc, ValueRange v) {
          Value wanted = classAt(b, loc, v[0]),
                at = arith::IndexCastOp::create(b, loc, b.getIndexType(), wanted);
          Value there = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, at, classes);
          if (ignored)
            there = arith::OrIOp::create(b, loc, there, isIgnored(b, loc, wanted));
          linalg::YieldOp::create(b, loc, arith::AndIOp::create(b, loc, v[1], there).getResult());
        });
    l.check(tensor::ExtractOp::create(l.b, all, ValueRange()), "a target is not among the classes");
  }
};
} // namespace

/// The negative log likelihood of each target, given `logs` [n, classes, ...] with elements of type
/// `wide`.
static LogicalResult likelihoodLoss(Lowering &l, Value logs, Type wide) {
  StringRef reduction = onnx::getString(l.op, "reduction", "mean");
  if (reduction != "none" && reduction != "sum" && reduction != "mean")
    return l.unsupported("reduction " + reduction);
  Type element = l.resultType().getElementType();
  Value target = l.in(1), weights = l.has(2) ? l.in(2) : Value();
  int64_t rank = l.rank(0);
  for (int64_t i = 0; i < rank; ++i)
    if (i != 1)
      l.equalize(logs, i, l.dims(0)[i], target, i ? i - 1 : 0, l.dims(1)[i ? i - 1 : 0],
                 "scores and targets");
  if (weights)
    l.equalize(logs, 1, l.dims(0)[1], weights, 0, l.dims(2)[0], "classes and weights");
  Loss loss{l, target, Value(), l.value(l.dim(logs, 1)), l.element(1)};
  if (l.op->getAttr("ignore_index"))
    loss.ignored = l.scalarInt(l.b.getI64Type(), l.attr("ignore_index", 0));
  loss.checkTarget();
  Sizes sizes = l.sizes(target);
  AffineMap identity = l.b.getMultiDimIdentityMap(rank - 1);
  // The weight of each target's class, 0 where it is ignored.
  Value zero = l.scalar(wide, 0), one = l.scalar(wide, 1);
  Value shares =
      l.parallel(target, identity, sizes, wide, [&](OpBuilder &b, Location loc, ValueRange v) {
        Value wanted = loss.classAt(b, loc, v[0]), share = one;
        if (weights) {
          Value weight =
              tensor::ExtractOp::create(b, loc, weights, ValueRange{loss.clamped(b, loc, wanted)});
          share = castScalar(b, loc, weight, l.element(2), wide);
        }
        if (loss.ignored)
          share = arith::SelectOp::create(b, loc, loss.isIgnored(b, loc, wanted), zero, share);
        return share;
      });
  bool each = reduction == "none";
  Value losses = l.parallel(
      {target, shares}, {identity, identity}, sizes, each ? element : wide,
      [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
        SmallVector<Value> at;
        for (int64_t i = 0; i < rank - 1; ++i)
          at.push_back(linalg::IndexOp::create(b, loc, i));
        at.insert(at.begin() + 1, loss.clamped(b, loc, loss.classAt(b, loc, v[0])));
        Value likelihood = tensor::ExtractOp::create(b, loc, logs, at);
        Value product =
            arith::MulFOp::create(b, loc, arith::NegFOp::create(b, loc, likelihood), v[1]);
        // An ignored target's score may be anything.
        Value nothing = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, v[1], zero);
        product = arith::SelectOp::create(b, loc, nothing, zero, product);
        return castScalar(b, loc, product, wide, each ? element : wide);
      });
  if (each)
    return l.replace(losses);
  SmallVector<int64_t> all = llvm::to_vector(llvm::seq<int64_t>(rank - 1));
  auto total = [&](Value tensor) {
    return reduceOver(l, tensor, all, zero,
                      [](OpBuilder &b, Location loc, Value acc, Value v) -> Value {
                        return arith::AddFOp::create(b, loc, acc, v);
                      });
  };
  SmallVector<Value> inputs = {total(losses)};
  SmallVector<AffineMap> maps = {l.mapOf(0, {})};
  if (reduction == "mean") {
    inputs.push_back(total(shares));
    maps.push_back(maps[0]);
  }
  return l.replace(
      l.parallel(inputs, maps, {}, element, [&](OpBuilder &b, Location loc, ValueRange v) {
        Value result = v.size() > 1 ? arith::DivFOp::create(b, loc, v[0], v[1]).getResult() : v[0];
        return castScalar(b, loc, result, wide, element);
      }));
}

static LogicalResult likelihood(Lowering &l) {
  Type wide = realType(l.element(0));
  return likelihoodLoss(l, widened(l, l.in(0), wide), wide);
}

static LogicalResult crossEntropy(Lowering &l) {
  Type element = l.element(0), wide = realType(element);
  Value logs = softmaxOver(l, widened(l, l.in(0), wide), 1, /*logarithm=*/true, wide);
  if (l.op->getNumResults() > 1 && !isa<NoneType>(l.op->getResult(1).getType())) {
    int64_t rank = l.rank(0);
    Value shown = l.parallel(logs, l.b.getMultiDimIdentityMap(rank), l.sizes(logs), element,
                             [&](OpBuilder &b, Location loc, ValueRange v) {
                               return castScalar(b, loc, v[0], wide, element);
                             });
    if (failed(l.replace(1, shown)))
      return failure();
  }
  return likelihoodLoss(l, logs, wide);
}

void lowbit::onnx::addLossLowerings(LoweringTable &table) {
  table["NegativeLogLikelihoodLoss"] = likelihood;
  table["SoftmaxCrossEntropyLoss"] = crossEntropy;
}
