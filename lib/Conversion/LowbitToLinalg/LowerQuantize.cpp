//===- LowerQuantize.cpp - quantize, dequantize and gather ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;

/// The element of scale and zero that belongs to an element of a tensor of `rank`: nothing for one
/// scale, the index along `axis` for one per channel, the group's index along it for groups.
static AffineMap paramMap(MLIRContext *context, int64_t rank, int64_t paramRank,
                          std::optional<int64_t> axis, int64_t group) {
  SmallVector<AffineExpr> exprs;
  if (paramRank == 0)
    return AffineMap::get(rank, 0, context);
  if (group == 0)
    return AffineMap::get(rank, 0, getAffineDimExpr(*axis, context));
  for (int64_t d = 0; d < rank; ++d) {
    AffineExpr expr = getAffineDimExpr(d, context);
    exprs.push_back(d == *axis ? expr.floorDiv(group) : expr);
  }
  return AffineMap::get(rank, 0, exprs, context);
}

static std::optional<int64_t> axisOf(IntegerAttr attr) {
  return attr ? std::optional<int64_t>(attr.getInt()) : std::nullopt;
}

LogicalResult lowbit::lowerQuantize(QuantizeOp op, OpBuilder &b, Value &result) {
  Lowering l{b, op.getLoc()};
  Type element = cast<RankedTensorType>(op.getOutput().getType()).getElementType();
  if (element.getIntOrFloatBitWidth() > 16)
    return op.emitOpError("quantizes to ") << element << "; at most 16 bits are supported";
  Value input = op.getInput();
  auto type = cast<RankedTensorType>(input.getType());
  auto scaleType = cast<RankedTensorType>(op.getScale().getType());
  SmallVector<Value> operands{input};
  SmallVector<AffineMap> maps{b.getMultiDimIdentityMap(type.getRank())};
  Value scale, zero;
  if (scaleType.getRank() == 0) {
    scale = l.scalar(op.getScale());
    zero = l.scalar(op.getZero());
  } else {
    operands.append({l.stored(op.getScale()), l.stored(op.getZero())});
    maps.append(2, paramMap(op.getContext(), type.getRank(), scaleType.getRank(),
                            axisOf(op.getAxisAttr()), op.getGroup()));
  }
  result = l.elementwise(
      operands, maps, l.shapeOf(input), storageType(element), [&](OpBuilder &b, ValueRange args) {
        Location loc = op.getLoc();
        Value x = args[0];
        if (!x.getType().isF32())
          x = x.getType().getIntOrFloatBitWidth() < 32
                  ? Value(arith::ExtFOp::create(b, loc, b.getF32Type(), x))
                  : Value(arith::TruncFOp::create(b, loc, b.getF32Type(), x));
        Value s = scale ? scale : args[1];
        Value z = zero ? zero : Lowering::widen(b, loc, args[2], element, b.getI32Type());
        Value quotient = arith::DivFOp::create(b, loc, x, s);
        return Lowering::roundAndSaturate(b, loc, quotient, z, element, false);
      });
  return success();
}

/// (q - zero) * scale. The difference is exact: 32-bit integers go through 64 bits. Half-precision
/// weights have a scale all the same.
static Value dequantizeElement(OpBuilder &b, Location loc, Value q, Type element, Value zero,
                               Value scale) {
  if (isa<FloatType>(element)) {
    Value real = arith::ExtFOp::create(b, loc, b.getF32Type(), q);
    return arith::MulFOp::create(b, loc, real, scale);
  }
  Type wide = element.getIntOrFloatBitWidth() > 16 ? b.getI64Type() : b.getI32Type();
  Value difference = Lowering::widen(b, loc, q, element, wide);
  if (zero)
    difference =
        arith::SubIOp::create(b, loc, difference, Lowering::widen(b, loc, zero, element, wide));
  Value real = arith::SIToFPOp::create(b, loc, b.getF32Type(), difference);
  return arith::MulFOp::create(b, loc, real, scale);
}

Value lowbit::dequantizeStored(Lowering &l, Value q, Type element, Value scale, Value zero,
                               AffineMap map) {
  SmallVector<Value> operands{q, scale};
  SmallVector<AffineMap> maps{l.b.getMultiDimIdentityMap(map.getNumDims()), map};
  if (zero) {
    operands.push_back(zero);
    maps.push_back(map);
  }
  return l.elementwise(
      operands, maps, l.shapeOf(q), l.b.getF32Type(), [&](OpBuilder &b, ValueRange args) {
        return dequantizeElement(b, l.loc, args[0], element, zero ? args[2] : Value(), args[1]);
      });
}

LogicalResult lowbit::lowerDequantize(DequantizeOp op, OpBuilder &b, Value &result) {
  Lowering l{b, op.getLoc()};
  auto type = cast<RankedTensorType>(op.getInput().getType());
  auto scaleType = cast<RankedTensorType>(op.getScale().getType());
  AffineMap map = paramMap(op.getContext(), type.getRank(), scaleType.getRank(),
                           axisOf(op.getAxisAttr()), op.getGroup());
  result = dequantizeStored(l, l.stored(op.getInput()), type.getElementType(),
                            l.stored(op.getScale()), l.stored(op.getZero()), map);
  auto resultType = cast<RankedTensorType>(op.getOutput().getType());
  Type target = resultType.getElementType();
  if (target.isF32())
    return success();
  result = l.elementwise({result}, {b.getMultiDimIdentityMap(type.getRank())}, l.shapeOf(result),
                         target, [&](OpBuilder &b, ValueRange args) -> Value {
                           if (target.getIntOrFloatBitWidth() > 32)
                             return arith::ExtFOp::create(b, op.getLoc(), target, args[0]);
                           return arith::TruncFOp::create(b, op.getLoc(), target, args[0]);
                         });
  return success();
}

LogicalResult lowbit::lowerGather(GatherOp op, OpBuilder &b, Value &result) {
  Lowering l{b, op.getLoc()};
  Location loc = op.getLoc();
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  auto indexType = cast<RankedTensorType>(op.getIndices().getType());
  auto scaleType = cast<RankedTensorType>(op.getWeightScale().getType());
  Value weight = l.stored(op.getWeight()), scale = l.stored(op.getWeightScale()), zero;
  if (op.getWeightZero())
    zero = l.stored(op.getWeightZero());
  Value rows = arith::IndexCastOp::create(b, loc, b.getI64Type(), l.dim(weight, 0));
  Value none = l.constantInt(b.getI64Type(), 0);

  // Negative indices count from the end; those out of range fail the run and read row 0.
  int64_t rank = indexType.getRank();
  SmallVector<OpFoldResult> shape = l.shapeOf(op.getIndices());
  StringRef layer = op.getLayer();
  std::string message = ("layer '" + layer + "': an index is outside of the table").str();
  Value row = l.elementwise(
      {l.stored(op.getIndices())}, {b.getMultiDimIdentityMap(rank)}, shape, b.getI64Type(),
      [&](OpBuilder &b, ValueRange args) -> Value {
        Value index = Lowering::widen(b, loc, args[0], indexType.getElementType(), b.getI64Type());
        Value isNegative = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, index, none);
        Value fromEnd = arith::AddIOp::create(b, loc, index, rows);
        index = arith::SelectOp::create(b, loc, isNegative, fromEnd, index);
        // One unsigned comparison checks both ends.
        Value inRange = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, index, rows);
        rt::AssertOp::create(b, loc, inRange, message);
        return arith::SelectOp::create(b, loc, inRange, index, none);
      });

  shape.push_back(l.shapeOf(weight)[1]);
  AffineMap rowMap = b.getMultiDimIdentityMap(rank + 1).getMajorSubMap(rank);
  result =
      l.elementwise({row}, {rowMap}, shape, b.getF32Type(), [&](OpBuilder &b, ValueRange args) {
        Value r = arith::IndexCastOp::create(b, loc, b.getIndexType(), args[0]);
        Value column = linalg::IndexOp::create(b, loc, rank);
        SmallVector<Value> at;
        if (scaleType.getRank() > 0)
          at.push_back(r);
        if (scaleType.getRank() > 1) {
          Value group = arith::ConstantIndexOp::create(b, loc, op.getGroup());
          at.push_back(arith::DivUIOp::create(b, loc, column, group));
        }
        Value q = tensor::ExtractOp::create(b, loc, weight, ValueRange{r, column});
        Value s = tensor::ExtractOp::create(b, loc, scale, at);
        Value z = zero ? Value(tensor::ExtractOp::create(b, loc, zero, at)) : Value();
        return dequantizeElement(b, loc, q, weightType.getElementType(), z, s);
      });
  return success();
}
