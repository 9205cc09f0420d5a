//===- Epilogue.h - from accumulators to results ----------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_LOWBITTOLINALG_EPILOGUE_H
#define LOWBIT_LIB_CONVERSION_LOWBITTOLINALG_EPILOGUE_H

#include "Lowering.h"
#include "lowbit/Numerics/Quantize.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

namespace lowbit {

/// f32(f64(input_scale) * weight_scale / output_scale), [] or one per channel: a constant where the
/// scales are.
Value requantMultipliers(Lowering &l, Value inputScale, Value weightScale, Value outputScale);

/// What follows the accumulation in linear and conv; `channel` is the accumulator's dimension of
/// output channels.
template <typename OpTy>
Value lowerEpilogue(OpTy op, Lowering &l, Value acc, unsigned channel) {
  Location loc = l.loc;
  auto type = cast<RankedTensorType>(acc.getType());
  bool isInteger = isa<IntegerType>(type.getElementType());
  Type element = cast<RankedTensorType>(op.getOutput().getType()).getElementType();
  bool quantizes = bool(op.getOutputScale());
  if (!isInteger && !op.getBias() && !op.getRelu())
    return acc;

  AffineMap perChannel =
      AffineMap::get(type.getRank(), 0, getAffineDimExpr(channel, op.getContext()));
  SmallVector<Value> operands{acc};
  SmallVector<AffineMap> maps{l.b.getMultiDimIdentityMap(type.getRank())};
  auto add = [&](Value value) {
    bool isScalar = cast<RankedTensorType>(value.getType()).getRank() == 0;
    operands.push_back(value);
    maps.push_back(isScalar ? AffineMap::get(type.getRank(), 0, op.getContext()) : perChannel);
  };
  if (isInteger)
    add(requantMultipliers(l, op.getInputScale(), op.getWeightScale(), op.getOutputScale()));
  if (op.getBias())
    add(l.stored(op.getBias()));
  Value zero = quantizes ? l.scalar(op.getOutputZero()) : Value();
  Type stored = quantizes ? storageType(element) : element;

  return l.elementwise(operands, maps, l.shapeOf(acc), stored, [&](OpBuilder &b, ValueRange args) {
    Value x = args[0];
    Value bias = op.getBias() ? args[isInteger ? 2 : 1] : Value();
    if (isInteger) {
      if (bias)
        x = arith::AddIOp::create(b, loc, x, bias);
      x = arith::SIToFPOp::create(b, loc, b.getF32Type(), x);
      x = arith::MulFOp::create(b, loc, x, args[1]);
    } else if (bias) {
      x = arith::AddFOp::create(b, loc, x, bias);
    }
    if (quantizes)
      return Lowering::roundAndSaturate(b, loc, x, zero, element, op.getRelu());
    if (op.getRelu()) {
      Value none = arith::ConstantOp::create(b, loc, b.getF32FloatAttr(0));
      x = arith::MaximumFOp::create(b, loc, x, none);
    }
    return x;
  });
}

/// What follows the accumulation in the mode that sums in float: f32(acc) * weight_scale (f32 sums
/// over groups have it already), * input_scale, + bias, relu, each operation rounded. `channel` is
/// the accumulator's dimension of output channels, its last one where input scales are per row.
template <typename OpTy>
Value lowerFloatEpilogue(OpTy op, Lowering &l, Value acc, unsigned channel) {
  Location loc = l.loc;
  auto type = cast<RankedTensorType>(acc.getType());
  unsigned rank = type.getRank();
  MLIRContext *context = op.getContext();
  SmallVector<Value> operands{acc};
  SmallVector<AffineMap> maps{l.b.getMultiDimIdentityMap(rank)};
  AffineExpr none = getAffineConstantExpr(0, context),
             channelExpr = getAffineDimExpr(channel, context);
  auto add = [&](Value value, ArrayRef<AffineExpr> exprs) {
    operands.push_back(value);
    maps.push_back(AffineMap::get(rank, 0, exprs, context));
    return operands.size() - 1;
  };
  bool isSum = isa<FloatType>(type.getElementType());
  size_t weightScale = 0, inputScale = 0, bias = 0;
  if (!isSum) {
    int64_t scaleRank = cast<RankedTensorType>(op.getWeightScale().getType()).getRank();
    SmallVector<AffineExpr> exprs{channelExpr, none}; // One group at most.
    exprs.resize(scaleRank);
    weightScale = add(l.stored(op.getWeightScale()), exprs);
  }
  Value scalar;
  if (cast<RankedTensorType>(op.getInputScale().getType()).getRank() == 0) {
    scalar = l.scalar(op.getInputScale());
  } else {
    SmallVector<AffineExpr> exprs;
    for (unsigned d = 0; d + 1 < rank; ++d)
      exprs.push_back(getAffineDimExpr(d, context));
    exprs.push_back(none);
    inputScale = add(op.getInputScale(), exprs);
  }
  if (op.getBias())
    bias = add(l.stored(op.getBias()), channelExpr);
  return l.elementwise(
      operands, maps, l.shapeOf(acc), l.b.getF32Type(), [&](OpBuilder &b, ValueRange args) {
        Value x = args[0];
        if (!isSum) {
          x = arith::SIToFPOp::create(b, loc, b.getF32Type(), x);
          x = arith::MulFOp::create(b, loc, x, args[weightScale]);
        }
        x = arith::MulFOp::create(b, loc, x, scalar ? scalar : args[inputScale]);
        if (bias)
          x = arith::AddFOp::create(b, loc, x, args[bias]);
        if (op.getRelu()) {
          Value zero = arith::ConstantOp::create(b, loc, b.getF32FloatAttr(0));
          x = arith::MaximumFOp::create(b, loc, x, zero);
        }
        return x;
      });
}

} // namespace lowbit

#endif // LOWBIT_LIB_CONVERSION_LOWBITTOLINALG_EPILOGUE_H
