//===- Normalization.cpp - Softmax, layer and batch normalization -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Normalization.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace lowbit;
using namespace lowbit::onnx;

Value lowbit::onnx::widened(Lowering &l, Value tensor, Type to) {
  Type element = cast<RankedTensorType>(tensor.getType()).getElementType();
  if (element == to)
    return tensor;
  Sizes sizes = l.sizes(tensor);
  return l.parallel(tensor, l.b.getMultiDimIdentityMap(sizes.size()), sizes, to,
                    [&](OpBuilder &b, Location loc, ValueRange v) {
                      return castScalar(b, loc, v[0], element, to);
                    });
}

Value lowbit::onnx::softmaxOver(Lowering &l, Value x, int64_t axis, bool logarithm, Type element) {
  Type wide = cast<RankedTensorType>(x.getType()).getElementType();
  SmallVector<int64_t> axes = {axis};
  Sizes sizes = l.sizes(x);
  int64_t rank = sizes.size();
  AffineMap identity = l.b.getMultiDimIdentityMap(rank), outer = withoutAxes(l, rank, axes);
  Value greatest = reduceOver(l, x, axes, extremum(l, wide, false, false),
                              [](OpBuilder &b, Location loc, Value acc, Value v) -> Value {
                                return arith::MaximumFOp::create(b, loc, acc, v);
                              });
  Value shifted = l.parallel({x, greatest}, {identity, outer}, sizes, wide,
                             [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                               Value y = arith::SubFOp::create(b, loc, v[0], v[1]);
                               return logarithm ? y : math::ExpOp::create(b, loc, y).getResult();
                             });
  Value sums = reduceOver(l, shifted, axes, l.scalar(wide, 0),
                          [&](OpBuilder &b, Location loc, Value acc, Value v) -> Value {
                            if (logarithm)
                              v = math::ExpOp::create(b, loc, v);
                            return arith::AddFOp::create(b, loc, acc, v);
                          });
  return l.parallel(
      {shifted, sums}, {identity, outer}, sizes, element,
      [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
        Value y =
            logarithm
                ? arith::SubFOp::create(b, loc, v[0], math::LogOp::create(b, loc, v[1])).getResult()
                : arith::DivFOp::create(b, loc, v[0], v[1]).getResult();
        return castScalar(b, loc, y, wide, element);
      });
}

static LogicalResult softmax(Lowering &l) {
  Type element = l.resultType().getElementType();
  int64_t rank = l.rank(0);
  if (rank == 0)
    return l.unsupported("a scalar input");
  Value x = widened(l, l.in(0), realType(element));
  return l.replace(softmaxOver(l, x, l.axis("axis", -1, rank), l.name() == "LogSoftmax", element));
}

static Value addStep(OpBuilder &b, Location loc, Value acc, Value v) {
  return arith::AddFOp::create(b, loc, acc, v);
}

static Value squareStep(OpBuilder &b, Location loc, Value acc, Value v) {
  return arith::AddFOp::create(b, loc, acc, arith::MulFOp::create(b, loc, v, v));
}

namespace {
/// A tensor minus its mean over some axes, with the mean and the sum of squares that go with it
/// (both without the axes).
struct Centered {
  Value x, total, squares, count;
};
} // namespace

/// In two passes, so that nothing cancels. `x` has float elements.
static Centered center(Lowering &l, Value x, ArrayRef<int64_t> axes) {
  Type wide = cast<RankedTensorType>(x.getType()).getElementType();
  Sizes sizes = l.sizes(x);
  int64_t rank = sizes.size();
  Value count = reducedCount(l, x, axes, wide);
  Value total = reduceOver(l, x, axes, l.scalar(wide, 0), addStep);
  x = l.parallel({x, total}, {l.b.getMultiDimIdentityMap(rank), withoutAxes(l, rank, axes)}, sizes,
                 wide, [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                   Value mean = arith::DivFOp::create(b, loc, v[1], count);
                   return arith::SubFOp::create(b, loc, v[0], mean);
                 });
  return {x, total, reduceOver(l, x, axes, l.scalar(wide, 0), squareStep), count};
}

/// LayerNormalization and, without the mean, RMSNormalization.
static LogicalResult layerNorm(Lowering &l) {
  bool centered = l.name() == "LayerNormalization";
  Type element = l.resultType().getElementType(), wide = realType(element);
  int64_t rank = l.rank(0);
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(l.axis("axis", -1, rank), rank));
  Value x = widened(l, l.in(0), wide);
  Sizes sizes = l.sizes(x);
  AffineMap identity = l.b.getMultiDimIdentityMap(rank), outer = withoutAxes(l, rank, axes);
  Value count, squares, total;
  if (centered) {
    Centered c = center(l, x, axes);
    x = c.x, count = c.count, squares = c.squares, total = c.total;
  } else {
    count = reducedCount(l, x, axes, wide);
    squares = reduceOver(l, x, axes, l.scalar(wide, 0), squareStep);
  }
  Value epsilon = l.scalar(wide, onnx::getFloat(l.op, "epsilon", 1e-5));
  Value one = l.scalar(wide, 1);
  Sizes outerSizes;
  for (int64_t i = 0; i < rank - (int64_t)axes.size(); ++i)
    outerSizes.push_back(sizes[i]);
  // One square root and one division per row.
  Value inverse =
      l.parallel(squares, l.b.getMultiDimIdentityMap(outerSizes.size()), outerSizes, wide,
                 [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                   Value mean = arith::DivFOp::create(b, loc, v[0], count);
                   mean = arith::AddFOp::create(b, loc, mean, epsilon);
                   return arith::DivFOp::create(b, loc, one, math::SqrtOp::create(b, loc, mean));
                 });
  // The statistics as outputs keep the normalized dims with size 1.
  auto statistic = [&](unsigned result, Value value, bool mean) -> LogicalResult {
    if (result >= l.op->getNumResults() || isa<NoneType>(l.op->getResult(result).getType()))
      return success();
    Sizes kept = outerSizes;
    kept.resize(rank, l.index(1));
    Type to = l.resultType(result).getElementType();
    SmallVector<AffineExpr> exprs;
    for (unsigned i = 0; i < outerSizes.size(); ++i)
      exprs.push_back(l.d(i));
    return l.replace(
        result, l.parallel(value, l.mapOf(rank, exprs), kept, to,
                           [&](OpBuilder &b, Location loc, ValueRange v) {
                             Value y = mean ? arith::DivFOp::create(b, loc, v[0], count).getResult()
                                            : v[0];
                             return castScalar(b, loc, y, wide, to);
                           }));
  };
  if (failed(statistic(1, total, true)) || failed(statistic(2, inverse, false)))
    return failure();
  SmallVector<Value> inputs = {x, inverse};
  SmallVector<AffineMap> maps = {identity, outer};
  SmallVector<Type> from;
  for (unsigned i : {1u, 2u}) {
    if (!l.has(i))
      continue;
    Value parameter = l.in(i);
    maps.push_back(l.broadcastMap(parameter, l.dims(i), l.dims(0), sizes));
    inputs.push_back(parameter);
    from.push_back(l.element(i));
  }
  return l.replace(
      l.parallel(inputs, maps, sizes, element, [&](OpBuilder &b, Location loc, ValueRange v) {
        Value y = arith::MulFOp::create(b, loc, v[0], v[1]);
        unsigned next = 2;
        if (l.has(1)) {
          y = arith::MulFOp::create(b, loc, y, castScalar(b, loc, v[next], from[next - 2], wide));
          ++next;
        }
        if (l.has(2))
          y = arith::AddFOp::create(b, loc, y, castScalar(b, loc, v[next], from[next - 2], wide));
        return castScalar(b, loc, y, wide, element);
      }));
}

/// y = (x - mean) * (scale / sqrt(variance + epsilon)) + bias, one factor per channel. In training
/// mode mean and variance are those of the batch, and move the running ones.
static LogicalResult batchNorm(Lowering &l) {
  Type element = l.resultType().getElementType();
  int64_t rank = l.rank(0);
  bool training = l.attr("training_mode", 0) == 1;
  Type wide = realType(element);
  for (unsigned i = 1; i < 5; ++i)
    if (isa<Float64Type>(l.element(i)))
      wide = l.b.getF64Type();
  Value epsilon = l.scalar(wide, onnx::getFloat(l.op, "epsilon", 1e-5));
  AffineMap line = l.b.getMultiDimIdentityMap(1), channel = l.mapOf(rank, {l.d(1)});
  Sizes sizes = l.sizes(l.in(0)), channels = {sizes[1]};
  auto parameter = [&](unsigned i) { return widened(l, l.in(i), wide); };
  Value x = widened(l, l.in(0), wide), mean = parameter(3), variance = parameter(4);
  if (training) {
    SmallVector<int64_t> axes;
    for (int64_t i = 0; i < rank; ++i)
      if (i != 1)
        axes.push_back(i);
    Centered c = center(l, x, axes);
    auto average = [&](Value sum) {
      return l.parallel(sum, line, channels, wide,
                        [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                          return arith::DivFOp::create(b, loc, v[0], c.count);
                        });
    };
    Value momentum = l.scalar(wide, onnx::getFloat(l.op, "momentum", 0.9));
    Value rest = arith::SubFOp::create(l.b, l.scalar(wide, 1), momentum);
    Value batchMean = average(c.total), batchVariance = average(c.squares);
    for (auto [result, running, own] :
         {std::tuple(1u, mean, batchMean), {2u, variance, batchVariance}}) {
      if (result >= l.op->getNumResults() || isa<NoneType>(l.op->getResult(result).getType()))
        continue;
      Type to = l.resultType(result).getElementType();
      Value moved = l.parallel({running, own}, {line, line}, channels, to,
                               [&](OpBuilder &b, Location loc, ValueRange v) {
                                 Value old = arith::MulFOp::create(b, loc, v[0], momentum);
                                 Value fresh = arith::MulFOp::create(b, loc, v[1], rest);
                                 return castScalar(
                                     b, loc, arith::AddFOp::create(b, loc, old, fresh), wide, to);
                               });
      if (failed(l.replace(result, moved)))
        return failure();
    }
    mean = batchMean, variance = batchVariance;
  }
  Value factor = l.parallel({parameter(1), variance}, {line, line}, channels, wide,
                            [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                              Value root = math::SqrtOp::create(
                                  b, loc, arith::AddFOp::create(b, loc, v[1], epsilon));
                              return arith::DivFOp::create(b, loc, v[0], root);
                            });
  return l.replace(l.parallel({x, mean, factor, parameter(2)},
                              {l.b.getMultiDimIdentityMap(rank), channel, channel, channel}, sizes,
                              element, [&](OpBuilder &b, Location loc, ValueRange v) {
                                Value y = arith::SubFOp::create(b, loc, v[0], v[1]);
                                y = arith::MulFOp::create(b, loc, y, v[2]);
                                y = arith::AddFOp::create(b, loc, y, v[3]);
                                return castScalar(b, loc, y, wide, element);
                              }));
}

/// (x - mean) / sqrt(variance + epsilon) * scale + bias with the statistics over `axes` of `x`,
/// whose elements are wide. `parameters` reads scale and bias from the loops over x.
static Value normalize(Lowering &l, Value x, ArrayRef<int64_t> axes, AffineMap parameters,
                       Type element) {
  Type wide = cast<RankedTensorType>(x.getType()).getElementType();
  int64_t rank = cast<RankedTensorType>(x.getType()).getRank();
  Centered c = center(l, x, axes);
  Value epsilon = l.scalar(wide, onnx::getFloat(l.op, "epsilon", 1e-5));
  AffineMap outer = withoutAxes(l, rank, axes);
  return l.parallel(
      {c.x, c.squares, l.in(1), l.in(2)},
      {l.b.getMultiDimIdentityMap(rank), outer, parameters, parameters}, l.sizes(x), element,
      [&](OpBuilder &b, Location loc, ValueRange v) {
        Value variance = arith::DivFOp::create(b, loc, v[1], c.count);
        Value root = math::SqrtOp::create(b, loc, arith::AddFOp::create(b, loc, variance, epsilon));
        Value y = arith::DivFOp::create(b, loc, v[0], root);
        y = arith::MulFOp::create(b, loc, y, castScalar(b, loc, v[2], l.element(1), wide));
        y = arith::AddFOp::create(b, loc, y, castScalar(b, loc, v[3], l.element(2), wide));
        return castScalar(b, loc, y, wide, element);
      });
}

/// Mean and variance of each sample's channel over its spatial dims.
static LogicalResult instanceNorm(Lowering &l) {
  Type element = l.resultType().getElementType();
  int64_t rank = l.rank(0);
  Value x = widened(l, l.in(0), realType(element));
  return l.replace(normalize(l, x, llvm::to_vector(llvm::seq<int64_t>(2, rank)),
                             l.mapOf(rank, {l.d(1)}), element));
}

/// Mean and variance of each group of channels. Scale and bias have a number per channel, or
/// (before opset 21) per group.
static LogicalResult groupNorm(Lowering &l) {
  Type element = l.resultType().getElementType();
  int64_t rank = l.rank(0), groups = l.attr("num_groups", 1);
  const Dims &dims = l.dims(0);
  bool perGroup = l.dims(1)[0] != dims[1];
  // [n, g, c / g, rest...]
  Dims split = {dims[0], groups, l.shapes.floorDiv(dims[1], groups)};
  split.append(dims.begin() + 2, dims.end());
  Sizes own = l.sizes(l.in(0)), sizes = {own[0], l.index(groups), l.div(own[1], l.index(groups))};
  sizes.append(own.begin() + 2, own.end());
  Value x = l.reshape(widened(l, l.in(0), realType(element)), dims, split, sizes);
  AffineExpr channel =
      perGroup ? l.d(1) : l.d(1) * *l.shapes.floorDiv(dims[1], groups).constant() + l.d(2);
  AffineMap parameters = l.mapOf(rank + 1, {channel});
  Value y = normalize(l, x, llvm::to_vector(llvm::seq<int64_t>(2, rank + 1)), parameters, element);
  return l.replace(l.reshape(y, split, dims, own));
}

/// (x - mean) / (standard deviation + 1e-9).
static LogicalResult meanVariance(Lowering &l) {
  Type element = l.resultType().getElementType(), wide = realType(element);
  int64_t rank = l.rank(0);
  SmallVector<int64_t> axes = {0, 2, 3};
  if (onnx::hasInts(l.op, "axes"))
    axes = onnx::getInts(l.op, "axes");
  for (int64_t &axis : axes)
    axis += axis < 0 ? rank : 0;
  Centered c = center(l, widened(l, l.in(0), wide), axes);
  Value epsilon = l.scalar(wide, 1e-9);
  return l.replace(l.parallel(
      {c.x, c.squares}, {l.b.getMultiDimIdentityMap(rank), withoutAxes(l, rank, axes)},
      l.sizes(c.x), element, [&](OpBuilder &b, Location loc, ValueRange v) {
        Value deviation =
            math::SqrtOp::create(b, loc, arith::DivFOp::create(b, loc, v[1], c.count));
        Value y =
            arith::DivFOp::create(b, loc, v[0], arith::AddFOp::create(b, loc, deviation, epsilon));
        return castScalar(b, loc, y, wide, element);
      }));
}

/// x / |x| over one axis, 0 where the norm is 0.
static LogicalResult lpNorm(Lowering &l) {
  Type element = l.resultType().getElementType(), wide = realType(element);
  int64_t rank = l.rank(0), p = l.attr("p", 2);
  if (p != 1 && p != 2)
    return l.unsupported("p = " + Twine(p));
  SmallVector<int64_t> axes = {l.axis("axis", -1, rank)};
  Value x = widened(l, l.in(0), wide), zero = l.scalar(wide, 0);
  Value sums = reduceOver(l, x, axes, zero, [&](OpBuilder &b, Location loc, Value acc, Value v) {
    return p == 2 ? squareStep(b, loc, acc, v)
                  : addStep(b, loc, acc, math::AbsFOp::create(b, loc, v));
  });
  return l.replace(l.parallel(
      {x, sums}, {l.b.getMultiDimIdentityMap(rank), withoutAxes(l, rank, axes)}, l.sizes(x),
      element, [&](OpBuilder &b, Location loc, ValueRange v) {
        Value norm = p == 2 ? math::SqrtOp::create(b, loc, v[1]).getResult() : v[1];
        Value none = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, norm, zero);
        Value y = arith::DivFOp::create(b, loc, v[0], norm);
        return castScalar(b, loc, arith::SelectOp::create(b, loc, none, zero, y), wide, element);
      }));
}

void lowbit::onnx::addNormalizationLowerings(LoweringTable &table) {
  table["BatchNormalization"] = batchNorm;
  table["GroupNormalization"] = groupNorm;
  table["InstanceNormalization"] = instanceNorm;
  table["LayerNormalization"] = layerNorm;
  table["LogSoftmax"] = softmax;
  table["LpNormalization"] = lpNorm;
  table["MeanVarianceNormalization"] = meanVariance;
  table["RMSNormalization"] = layerNorm;
  table["Softmax"] = softmax;
}
