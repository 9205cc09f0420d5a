//===- Quantization.cpp - QuantizeLinear and DequantizeLinear ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The ONNX operators of a model that is quantized already. lowbit's own
// quantization goes through the lowbit dialect.
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include <cmath>

using namespace lowbit;
using namespace lowbit::onnx;

/// How scale or zero point, operand `i`, is read from loops over the input's dims; a failure where it has blocks.
static FailureOr<AffineMap> parameterMap(Lowering &l, unsigned i) {
  int64_t rank = l.rank(0);
  const Dims &dims = l.dims(i);
  if (dims.empty())
    return l.mapOf(rank, {});
  if (dims.size() == 1 && dims[0].isConstant(1))
    return l.mapOf(rank, {l.b.getAffineConstantExpr(0)});
  int64_t axis = l.axis("axis", 1, rank), block = l.attr("block_size", 0);
  if (dims.size() == 1 && axis >= 0 && axis < rank && dims[0] == l.dims(0)[axis])
    return l.mapOf(rank, {l.d(axis)});
  if (block < 1 || (int64_t)dims.size() != rank || axis < 0 || axis >= rank)
    return l.unsupported("scales that do not fit the input");
  SmallVector<AffineExpr> exprs;
  for (int64_t d = 0; d < rank; ++d) {
    std::optional<int64_t> size = l.dims(0)[d].constant(), blocks = dims[d].constant();
    if (d != axis && dims[d] != l.dims(0)[d])
      return l.unsupported("scales that do not fit the input");
    if (d == axis && (!size || !blocks || *blocks != (*size + block - 1) / block))
      return l.unsupported("a number of blocks that does not fit the input");
    exprs.push_back(d == axis ? l.d(d).floorDiv(block) : l.d(d));
  }
  return l.mapOf(rank, exprs);
}

/// The least and the greatest value of an integer type, as floats.
static std::pair<double, double> range(Type type) {
  int width = type.getIntOrFloatBitWidth();
  if (type.isUnsignedInteger())
    return {0, std::ldexp(1.0, width) - 1};
  return {-std::ldexp(1.0, width - 1), std::ldexp(1.0, width - 1) - 1};
}

/// saturate(round_half_even(x / scale) + zero), all of it in f32.
static Value quantizeScalar(OpBuilder &b, Location loc, Value x, Value scale, Value zero, Type to) {
  Value q = math::RoundEvenOp::create(b, loc, arith::DivFOp::create(b, loc, x, scale));
  if (zero)
    q = arith::AddFOp::create(b, loc, q, zero);
  auto [low, high] = range(to);
  auto bound = [&](double value) {
    return arith::ConstantOp::create(b, loc, b.getF32FloatAttr((float)value)).getResult();
  };
  q = arith::MaxNumFOp::create(b, loc, q, bound(low));
  q = arith::MinNumFOp::create(b, loc, q, bound(high));
  return castScalar(b, loc, q, b.getF32Type(), to);
}

/// Operands x, scale and, where given, zero point, read for each element of x.
static LogicalResult collect(Lowering &l, SmallVectorImpl<Value> &inputs, SmallVectorImpl<AffineMap> &maps) {
  inputs.push_back(l.in(0));
  maps.push_back(l.b.getMultiDimIdentityMap(l.rank(0)));
  for (unsigned i : {1u, 2u}) {
    if (!l.has(i))
      continue;
    FailureOr<AffineMap> map = parameterMap(l, i);
    if (failed(map))
      return failure();
    if (l.attr("block_size", 0) && l.rank(i) == l.rank(0) && l.rank(0) > 0) {
      // A map that divides cannot tell the loops' bounds apart; spread the parameter first.
      Value parameter = l.in(i);
      Sizes sizes = l.sizes(l.in(0));
      int64_t axis = l.axis("axis", 1, l.rank(0)), block = l.attr("block_size", 0);
      Type element = cast<RankedTensorType>(parameter.getType()).getElementType();
      inputs.push_back(l.parallel({}, {}, sizes, element, [&](OpBuilder &b, Location loc, ValueRange) {
        SmallVector<Value> at;
        for (int64_t d = 0; d < l.rank(0); ++d) {
          Value position = linalg::IndexOp::create(b, loc, d);
          if (d == axis)
            position = arith::DivUIOp::create(b, loc, position,
                                              arith::ConstantIndexOp::create(b, loc, block));
          at.push_back(position);
        }
        return tensor::ExtractOp::create(b, loc, parameter, at).getResult();
      }));
      maps.push_back(l.b.getMultiDimIdentityMap(l.rank(0)));
      continue;
    }
    inputs.push_back(l.in(i));
    maps.push_back(*map);
  }
  return success();
}

static bool quantizable(Type type) { return type.isInteger() && type.getIntOrFloatBitWidth() <= 16; }

static LogicalResult quantize(Lowering &l) {
  Type from = l.element(0), to = cast<ShapedType>(l.op->getResult(0).getType()).getElementType();
  if (!isa<FloatType>(from) || from.isF64() || !quantizable(to))
    return l.unsupported("elements cannot be of this type");
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  if (failed(collect(l, inputs, maps)))
    return failure();
  bool hasZero = l.has(2);
  return l.replace(l.parallel(inputs, maps, l.sizes(l.in(0)), toSignless(to),
                              [&](OpBuilder &b, Location loc, ValueRange v) {
    Type f32 = b.getF32Type();
    Value zero = hasZero ? castScalar(b, loc, v[2], l.element(2), f32) : Value();
    return quantizeScalar(b, loc, castScalar(b, loc, v[0], from, f32),
                          castScalar(b, loc, v[1], l.element(1), f32), zero, to);
  }));
}

static LogicalResult dequantize(Lowering &l) {
  Type from = l.element(0), to = l.resultType().getElementType();
  if (!from.isInteger() || from.getIntOrFloatBitWidth() > 32 || to.isF64())
    return l.unsupported("elements cannot be of this type");
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  if (failed(collect(l, inputs, maps)))
    return failure();
  bool hasZero = l.has(2);
  return l.replace(l.parallel(inputs, maps, l.sizes(l.in(0)), to,
                              [&](OpBuilder &b, Location loc, ValueRange v) {
    Type f32 = b.getF32Type(), i32 = b.getI32Type();
    Value q = castScalar(b, loc, v[0], from, i32);
    if (hasZero)
      q = arith::SubIOp::create(b, loc, q, castScalar(b, loc, v[2], l.element(2), i32));
    Value x = arith::SIToFPOp::create(b, loc, f32, q);
    x = arith::MulFOp::create(b, loc, x, castScalar(b, loc, v[1], l.element(1), f32));
    return castScalar(b, loc, x, f32, to);
  }));
}

void lowbit::onnx::addQuantizationLowerings(LoweringTable &table) {
  table["DequantizeLinear"] = dequantize;
  table["QuantizeLinear"] = quantize;
}
