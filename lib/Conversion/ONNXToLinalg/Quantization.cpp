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
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include <cmath>

using namespace lowbit;
using namespace lowbit::onnx;

/// Scales in blocks as one per element, by loops over the input. Sizes that only the run knows are
/// checked then, and nothing is read where they are wrong.
static FailureOr<Value> spread(Lowering &l, unsigned i, int64_t axis, int64_t block) {
  int64_t rank = l.rank(0);
  Value parameter = l.in(i);
  Sizes sizes = l.sizes(l.in(0)), own = l.sizes(parameter);
  Value readable = l.value(l.index(1));
  bool checked = false;
  for (int64_t d = 0; d < rank; ++d) {
    std::optional<int64_t> size = l.dims(0)[d].constant(), mine = l.dims(i)[d].constant();
    if (d != axis && l.dims(i)[d] == l.dims(0)[d])
      continue;
    if (size && mine) {
      if (*mine != (d == axis ? (*size + block - 1) / block : *size))
        return l.unsupported("scales that do not fit the input");
      continue;
    }
    OpFoldResult wanted =
        d == axis ? l.div(l.add(sizes[d], l.index(block - 1)), l.index(block)) : sizes[d];
    Value fits =
        arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, l.value(own[d]), l.value(wanted));
    l.check(fits, "scales that do not fit the input");
    readable = arith::MinSIOp::create(l.b, readable, l.value(own[d]));
    checked = true;
  }
  Value zero = l.value(l.index(0));
  SmallVector<Value> last;
  for (OpFoldResult size : own)
    last.push_back(l.value(l.sub(size, l.index(1))));
  Value nonEmpty = arith::CmpIOp::create(l.b, arith::CmpIPredicate::sgt, readable, zero);
  Type element = cast<RankedTensorType>(parameter.getType()).getElementType();
  Value fallback = checked ? l.scalar(element, 0) : Value();
  return l.parallel({}, {}, sizes, element, [&](OpBuilder &b, Location loc, ValueRange) -> Value {
    SmallVector<Value> at;
    for (int64_t d = 0; d < rank; ++d) {
      Value position = linalg::IndexOp::create(b, loc, d);
      if (d == axis)
        position =
            arith::DivUIOp::create(b, loc, position, arith::ConstantIndexOp::create(b, loc, block));
      at.push_back(checked ? arith::MinSIOp::create(b, loc, position, last[d]).getResult()
                           : position);
    }
    if (!checked)
      return tensor::ExtractOp::create(b, loc, parameter, at);
    auto choice = scf::IfOp::create(
        b, loc, nonEmpty,
        [&](OpBuilder &inner, Location at0) {
          scf::YieldOp::create(inner, at0,
                               tensor::ExtractOp::create(inner, at0, parameter, at).getResult());
        },
        [&](OpBuilder &inner, Location at0) { scf::YieldOp::create(inner, at0, fallback); });
    return choice.getResult(0);
  });
}

/// Scale or zero point, operand `i`, as it is read from loops over the input's elements.
static LogicalResult addParameter(Lowering &l, unsigned i, SmallVectorImpl<Value> &inputs,
                                  SmallVectorImpl<AffineMap> &maps) {
  int64_t rank = l.rank(0);
  const Dims &dims = l.dims(i);
  auto add = [&](Value value, AffineMap map) {
    inputs.push_back(value);
    maps.push_back(map);
    return success();
  };
  if (dims.empty())
    return add(l.in(i), l.mapOf(rank, {}));
  if (dims.size() == 1 && dims[0].isConstant(1))
    return add(l.in(i), l.mapOf(rank, {l.b.getAffineConstantExpr(0)}));
  int64_t axis = l.axis("axis", 1, rank), block = l.attr("block_size", 0);
  if (rank == 1)
    axis = 0; // The default of 1 stands for one scale, which only the run may tell.
  if (axis < 0 || axis >= rank)
    return l.unsupported("an axis that the input does not have");
  if (block > INT32_MAX)
    return l.unsupported("blocks of this size");
  if (block > 0 && (int64_t)dims.size() == rank) {
    FailureOr<Value> value = spread(l, i, axis, block);
    return failed(value) ? failure() : add(*value, l.b.getMultiDimIdentityMap(rank));
  }
  if (dims.size() != 1 ||
      (dims[0].constant() && l.dims(0)[axis].constant() && dims[0] != l.dims(0)[axis]))
    return l.unsupported("scales that do not fit the input");
  if (dims[0] == l.dims(0)[axis])
    return add(l.in(i), l.mapOf(rank, {l.d(axis)}));
  // Only the run tells whether it is one scale or one per index.
  Value value = l.in(i);
  Dims from(rank, SymbolicExpr(1));
  from[axis] = dims[0];
  SmallVector<int64_t> shape(rank, 1);
  Sizes sizes(rank, l.index(1));
  shape[axis] = cast<RankedTensorType>(value.getType()).getDimSize(0);
  sizes[axis] = l.dim(value, 0);
  ReassociationIndices all = llvm::to_vector(llvm::seq<int64_t>(0, rank));
  if (rank > 1)
    value = tensor::ExpandShapeOp::create(l.b, cast<RankedTensorType>(value.getType()).clone(shape),
                                          value, ArrayRef<ReassociationIndices>{all}, sizes);
  AffineMap map = l.broadcastMap(value, from, l.dims(0), l.sizes(l.in(0)));
  return add(value, map);
}

/// The least and the greatest value of an integer type, as floats.
static std::pair<double, double> range(Type type) {
  int width = type.getIntOrFloatBitWidth();
  if (type.isUnsignedInteger())
    return {0, std::ldexp(1.0, width) - 1};
  return {-std::ldexp(1.0, width - 1), std::ldexp(1.0, width - 1) - 1};
}

/// saturate(round_half_even(x) + zero), all of it in f32.
static Value quantizeScalar(OpBuilder &b, Location loc, Value x, Value zero, Type to) {
  Value q = math::RoundEvenOp::create(b, loc, x);
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
static LogicalResult collect(Lowering &l, SmallVectorImpl<Value> &inputs,
                             SmallVectorImpl<AffineMap> &maps) {
  inputs.push_back(l.in(0));
  maps.push_back(l.b.getMultiDimIdentityMap(l.rank(0)));
  for (unsigned i : {1u, 2u})
    if (l.has(i) && failed(addParameter(l, i, inputs, maps)))
      return failure();
  return success();
}

/// 8- and 4-bit floats but f8E8M0, which has no sign.
static bool isSmallFloat(Type type) {
  return isa<FloatType>(type) && isByteStored(type) && !isa<Float8E8M0FNUType>(type);
}

static bool isSmallInteger(Type type) {
  return type.isInteger() && type.getIntOrFloatBitWidth() <= 16;
}

static LogicalResult quantize(Lowering &l) {
  Type from = l.element(0), to = cast<ShapedType>(l.op->getResult(0).getType()).getElementType();
  // Of TensorProto.DataType.
  constexpr int64_t unspecified = 0, single = 1, half = 10, brain = 16;
  int64_t precision = l.attr("precision", unspecified);
  bool isFloat = isSmallFloat(to), saturate = l.attr("saturate", 1);
  if (!isa<FloatType>(from) || from.isF64() || (!isFloat && !isSmallInteger(to)))
    return l.unsupported("elements cannot be of this type");
  if (precision != unspecified && precision != single && precision != half && precision != brain)
    return l.unsupported("a division of this precision");
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  if (failed(collect(l, inputs, maps)))
    return failure();
  bool hasZero = l.has(2);
  return l.replace(l.parallel(
      inputs, maps, l.sizes(l.in(0)), toSignless(to),
      [&](OpBuilder &b, Location loc, ValueRange v) {
        Type f32 = b.getF32Type();
        Value x = castScalar(b, loc, v[0], from, f32),
              scale = castScalar(b, loc, v[1], l.element(1), f32);
        x = arith::DivFOp::create(b, loc, x, scale);
        if (precision == half || precision == brain) {
          Type narrow = precision == half ? (Type)b.getF16Type() : b.getBF16Type();
          x = castScalar(b, loc, castScalar(b, loc, x, f32, narrow), narrow, f32);
        }
        if (isFloat) // Their zero point is 0.
          return castScalar(b, loc, x, f32, to, saturate);
        return quantizeScalar(b, loc, x,
                              hasZero ? castScalar(b, loc, v[2], l.element(2), f32) : Value(), to);
      }));
}

static LogicalResult dequantize(Lowering &l) {
  Type from = l.element(0), to = l.resultType().getElementType();
  bool isFloat = isSmallFloat(from);
  if ((!isFloat && (!from.isInteger() || from.getIntOrFloatBitWidth() > 32)) || to.isF64())
    return l.unsupported("elements cannot be of this type");
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  if (failed(collect(l, inputs, maps)))
    return failure();
  bool hasZero = l.has(2);
  return l.replace(
      l.parallel(inputs, maps, l.sizes(l.in(0)), to, [&](OpBuilder &b, Location loc, ValueRange v) {
        Type f32 = b.getF32Type(), scaleType = l.element(1);
        Value x;
        if (isFloat) {
          x = castScalar(b, loc, v[0], from, f32);
        } else {
          // The difference is exact.
          Type wide = from.getIntOrFloatBitWidth() > 16 ? b.getI64Type() : b.getI32Type();
          x = castScalar(b, loc, v[0], from, wide);
          if (hasZero)
            x = arith::SubIOp::create(b, loc, x, castScalar(b, loc, v[2], l.element(2), wide));
          x = arith::SIToFPOp::create(b, loc, f32, x);
        }
        x = arith::MulFOp::create(b, loc, x, castScalar(b, loc, v[1], scaleType, f32));
        return castScalar(b, loc, x, f32, to);
      }));
}

void lowbit::onnx::addQuantizationLowerings(LoweringTable &table) {
  table["DequantizeLinear"] = dequantize;
  table["QuantizeLinear"] = quantize;
}
