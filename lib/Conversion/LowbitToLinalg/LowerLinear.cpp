//===- LowerLinear.cpp - linear, and the multipliers of integer epilogues ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Epilogue.h"

using namespace lowbit;

Value lowbit::requantMultipliers(Lowering &l, Value inputScale, Value weightScale,
                                 Value outputScale) {
  auto type = cast<RankedTensorType>(weightScale.getType());
  std::optional<ConstantData> input = ConstantData::get(inputScale),
                              weight = ConstantData::get(weightScale), output;
  if (outputScale)
    output = ConstantData::get(outputScale);
  if (input && weight && (output || !outputScale)) {
    float in = input->toFloats()[0], out = output ? output->toFloats()[0] : 1.0f;
    std::vector<float> multipliers = weight->toFloats();
    for (float &multiplier : multipliers)
      multiplier = requantMultiplier(in, multiplier, out);
    return arith::ConstantOp::create(l.b, l.loc, makeConstant(type, multipliers));
  }
  Value in = l.scalar(inputScale), out = outputScale ? l.scalar(outputScale) : Value();
  return l.elementwise({l.stored(weightScale)}, {l.b.getMultiDimIdentityMap(type.getRank())},
                       l.shapeOf(weightScale), l.b.getF32Type(),
                       [&](OpBuilder &b, ValueRange args) -> Value {
                         auto wide = [&](Value value) {
                           return arith::ExtFOp::create(b, l.loc, b.getF64Type(), value);
                         };
                         Value product = arith::MulFOp::create(b, l.loc, wide(in), wide(args[0]));
                         if (out)
                           product = arith::DivFOp::create(b, l.loc, product, wide(out));
                         return arith::TruncFOp::create(b, l.loc, b.getF32Type(), product);
                       });
}

/// Loops are (rows…, k, n): the innermost one runs along the result, and with the weights as [K, N]
/// along them too, so that a compiler can vectorize it. Weights that are not constant stay [N, K].
LogicalResult lowbit::lowerLinear(LinearOp op, OpBuilder &b, Value &result) {
  if (op.sumsInFloat())
    return lowerLinearInFloat(op, b, result);
  Lowering l{b, op.getLoc()};
  Location loc = op.getLoc();
  MLIRContext *context = op.getContext();
  auto inputType = cast<RankedTensorType>(op.getInput().getType());
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  Type inputElement = inputType.getElementType(), weightElement = weightType.getElementType();
  unsigned rank = inputType.getRank(), loops = rank + 1, kLoop = rank - 1, nLoop = rank;
  bool isInteger = isa<IntegerType>(inputElement);

  // [K, N] where that costs nothing at run time.
  bool transposed = ConstantData::get(op.getWeight()).has_value();
  Value weight = transposed ? l.storedPermuted(op.getWeight(), weightType.getShape(), {1, 0})
                            : l.stored(op.getWeight());

  auto dims = [&](ArrayRef<unsigned> positions) {
    SmallVector<AffineExpr> exprs;
    for (unsigned position : positions)
      exprs.push_back(getAffineDimExpr(position, context));
    return AffineMap::get(loops, 0, exprs, context);
  };
  SmallVector<unsigned> rows = llvm::to_vector(llvm::seq<unsigned>(0, kLoop)), in = rows,
                        out = rows;
  in.push_back(kLoop);
  out.push_back(nLoop);
  AffineMap weightMap = transposed ? dims({kLoop, nLoop}) : dims({nLoop, kLoop});

  Value input = l.stored(op.getInput());
  SmallVector<OpFoldResult> shape = l.shapeOf(input);
  shape.back() = l.shapeOf(weight)[transposed ? 1 : 0];
  if (!isInteger) {
    // Dequantized first: once per run whatever the number of rows.
    AffineExpr channel = getAffineDimExpr(transposed ? 1 : 0, context),
               element = getAffineDimExpr(transposed ? 0 : 1, context);
    SmallVector<AffineExpr> scaleExprs;
    unsigned scaleRank = cast<RankedTensorType>(op.getWeightScale().getType()).getRank();
    if (scaleRank > 0)
      scaleExprs.push_back(channel);
    if (scaleRank > 1)
      scaleExprs.push_back(element.floorDiv(op.getGroup()));
    weight = dequantizeStored(l, weight, weightElement, l.stored(op.getWeightScale()),
                              op.getWeightZero() ? l.stored(op.getWeightZero()) : Value(),
                              AffineMap::get(2, 0, scaleExprs, context));
  }
  Value zero = isInteger ? l.scalar(op.getInputZero()) : Value();
  Value acc = l.contract(
      {input, weight}, {dims(in), weightMap}, dims(out), {kLoop}, shape,
      isInteger ? Type(b.getI32Type()) : b.getF32Type(),
      [&](OpBuilder &b, ValueRange args) -> Value {
        if (!isInteger) {
          Value product = arith::MulFOp::create(b, loc, args[0], args[1]);
          return arith::AddFOp::create(b, loc, args[2], product);
        }
        Value x = Lowering::widen(b, loc, args[0], inputElement, b.getI32Type());
        x = arith::SubIOp::create(b, loc, x, zero);
        Value w = Lowering::widen(b, loc, args[1], weightElement, b.getI32Type());
        return arith::AddIOp::create(b, loc, args[2], arith::MulIOp::create(b, loc, x, w));
      });
  result = lowerEpilogue(op, l, acc, rank - 1);
  return success();
}
