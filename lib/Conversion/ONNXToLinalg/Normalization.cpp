//===- Normalization.cpp - Softmax, layer and batch normalization -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Reduction.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace lowbit;
using namespace lowbit::onnx;

/// f32 for 16-bit floats, else the type itself.
static Type computeType(Type element) {
  return element.getIntOrFloatBitWidth() < 32 ? Float32Type::get(element.getContext()) : element;
}

static Value widened(Lowering &l, Value tensor, Type to) {
  Type element = cast<RankedTensorType>(tensor.getType()).getElementType();
  if (element == to)
    return tensor;
  Sizes sizes = l.sizes(tensor);
  return l.parallel(tensor, l.b.getMultiDimIdentityMap(sizes.size()), sizes, to,
                    [&](OpBuilder &b, Location loc, ValueRange v) {
                      return castScalar(b, loc, v[0], element, to);
                    });
}

static LogicalResult softmax(Lowering &l) {
  Type element = l.resultType().getElementType(), wide = computeType(element);
  bool logarithm = l.name() == "LogSoftmax";
  int64_t rank = l.rank(0);
  if (rank == 0)
    return l.unsupported("a scalar input");
  SmallVector<int64_t> axes = {l.axis("axis", -1, rank)};
  Value x = widened(l, l.in(0), wide);
  Sizes sizes = l.sizes(x);
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
  return l.replace(l.parallel({shifted, sums}, {identity, outer}, sizes, element,
                              [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
    Value y = logarithm
                  ? arith::SubFOp::create(b, loc, v[0], math::LogOp::create(b, loc, v[1])).getResult()
                  : arith::DivFOp::create(b, loc, v[0], v[1]).getResult();
    return castScalar(b, loc, y, wide, element);
  }));
}

/// LayerNormalization and, without the mean, RMSNormalization.
static LogicalResult layerNorm(Lowering &l) {
  bool centered = l.name() == "LayerNormalization";
  if (l.usesResult(1) || l.usesResult(2))
    return l.unsupported("the outputs Mean and InvStdDev");
  Type element = l.resultType().getElementType(), wide = computeType(element);
  int64_t rank = l.rank(0);
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(l.axis("axis", -1, rank), rank));
  Value x = widened(l, l.in(0), wide);
  Sizes sizes = l.sizes(x);
  AffineMap identity = l.b.getMultiDimIdentityMap(rank), outer = withoutAxes(l, rank, axes);
  Value count = reducedCount(l, x, axes, wide);
  auto sum = [](OpBuilder &b, Location loc, Value acc, Value v) -> Value {
    return arith::AddFOp::create(b, loc, acc, v);
  };
  if (centered) {
    Value total = reduceOver(l, x, axes, l.scalar(wide, 0), sum);
    x = l.parallel({x, total}, {identity, outer}, sizes, wide,
                   [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                     Value mean = arith::DivFOp::create(b, loc, v[1], count);
                     return arith::SubFOp::create(b, loc, v[0], mean);
                   });
  }
  Value squares = reduceOver(l, x, axes, l.scalar(wide, 0),
                             [](OpBuilder &b, Location loc, Value acc, Value v) -> Value {
                               Value square = arith::MulFOp::create(b, loc, v, v);
                               return arith::AddFOp::create(b, loc, acc, square);
                             });
  Value epsilon = l.scalar(wide, onnx::getFloat(l.op, "epsilon", 1e-5));
  Value one = l.scalar(wide, 1);
  Sizes outerSizes;
  for (int64_t i = 0; i < rank - (int64_t)axes.size(); ++i)
    outerSizes.push_back(sizes[i]);
  // One square root and one division per row.
  Value inverse = l.parallel(squares, l.b.getMultiDimIdentityMap(outerSizes.size()), outerSizes, wide,
                             [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                               Value mean = arith::DivFOp::create(b, loc, v[0], count);
                               mean = arith::AddFOp::create(b, loc, mean, epsilon);
                               return arith::DivFOp::create(b, loc, one, math::SqrtOp::create(b, loc, mean));
                             });
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
  return l.replace(l.parallel(inputs, maps, sizes, element,
                              [&](OpBuilder &b, Location loc, ValueRange v) {
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

/// y = (x - mean) * (scale / sqrt(variance + epsilon)) + bias, one factor per channel.
static LogicalResult batchNorm(Lowering &l) {
  Type element = l.resultType().getElementType();
  if (l.usesResult(1) || l.usesResult(2) || l.attr("training_mode", 0))
    return l.unsupported("training mode");
  for (unsigned i = 1; i < 5; ++i)
    if (l.element(i) != element)
      return l.unsupported("parameters of another element type");
  unsigned rank = l.rank(0);
  Value epsilon = l.scalar(element, onnx::getFloat(l.op, "epsilon", 1e-5));
  AffineMap line = l.b.getMultiDimIdentityMap(1);
  Value factor = l.parallel({l.in(1), l.in(4)}, {line, line}, l.sizes(l.in(1)), element,
                            [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                              Value variance = arith::AddFOp::create(b, loc, v[1], epsilon);
                              Value root = math::SqrtOp::create(b, loc, variance);
                              return arith::DivFOp::create(b, loc, v[0], root);
                            });
  AffineMap channel = l.mapOf(rank, {l.d(1)});
  return l.replace(l.parallel({l.in(0), l.in(3), factor, l.in(2)},
                              {l.b.getMultiDimIdentityMap(rank), channel, channel, channel},
                              l.sizes(l.in(0)), element,
                              [](OpBuilder &b, Location loc, ValueRange v) -> Value {
                                Value x = arith::SubFOp::create(b, loc, v[0], v[1]);
                                x = arith::MulFOp::create(b, loc, x, v[2]);
                                return arith::AddFOp::create(b, loc, x, v[3]);
                              }));
}

/// Mean and variance of each sample's channel over its spatial dims.
static LogicalResult instanceNorm(Lowering &l) {
  Type element = l.resultType().getElementType(), wide = computeType(element);
  int64_t rank = l.rank(0);
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(2, rank));
  Value x = widened(l, l.in(0), wide);
  Sizes sizes = l.sizes(x);
  AffineMap identity = l.b.getMultiDimIdentityMap(rank), outer = withoutAxes(l, rank, axes);
  AffineMap channel = l.mapOf(rank, {l.d(1)});
  Value count = reducedCount(l, x, axes, wide);
  Value total = reduceOver(l, x, axes, l.scalar(wide, 0),
                           [](OpBuilder &b, Location loc, Value acc, Value v) -> Value {
                             return arith::AddFOp::create(b, loc, acc, v);
                           });
  x = l.parallel({x, total}, {identity, outer}, sizes, wide,
                 [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                   Value mean = arith::DivFOp::create(b, loc, v[1], count);
                   return arith::SubFOp::create(b, loc, v[0], mean);
                 });
  Value squares = reduceOver(l, x, axes, l.scalar(wide, 0),
                             [](OpBuilder &b, Location loc, Value acc, Value v) -> Value {
                               Value square = arith::MulFOp::create(b, loc, v, v);
                               return arith::AddFOp::create(b, loc, acc, square);
                             });
  Value epsilon = l.scalar(wide, onnx::getFloat(l.op, "epsilon", 1e-5));
  return l.replace(l.parallel({x, squares, l.in(1), l.in(2)}, {identity, outer, channel, channel}, sizes,
                              element, [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
    Value variance = arith::DivFOp::create(b, loc, v[1], count);
    Value root = math::SqrtOp::create(b, loc, arith::AddFOp::create(b, loc, variance, epsilon));
    Value y = arith::DivFOp::create(b, loc, v[0], root);
    y = arith::MulFOp::create(b, loc, y, castScalar(b, loc, v[2], element, wide));
    y = arith::AddFOp::create(b, loc, y, castScalar(b, loc, v[3], element, wide));
    return castScalar(b, loc, y, wide, element);
  }));
}

void lowbit::onnx::addNormalizationLowerings(LoweringTable &table) {
  table["BatchNormalization"] = batchNorm;
  table["InstanceNormalization"] = instanceNorm;
  table["LayerNormalization"] = layerNorm;
  table["LogSoftmax"] = softmax;
  table["RMSNormalization"] = layerNorm;
  table["Softmax"] = softmax;
}
