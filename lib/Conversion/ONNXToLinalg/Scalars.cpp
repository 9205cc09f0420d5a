//===- Scalars.cpp - arithmetic on one element ------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/APFloat.h"

using namespace lowbit;
using namespace lowbit::onnx;

static Value number(OpBuilder &b, Location loc, Type type, double value) {
  if (auto floating = dyn_cast<FloatType>(type))
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(floating, value));
  return arith::ConstantOp::create(b, loc, b.getIntegerAttr(type, (int64_t)value));
}

Value lowbit::onnx::addScalars(OpBuilder &b, Location loc, Value x, Value y) {
  if (isa<FloatType>(x.getType()))
    return arith::AddFOp::create(b, loc, x, y);
  return arith::AddIOp::create(b, loc, x, y);
}

Value lowbit::onnx::mulScalars(OpBuilder &b, Location loc, Value x, Value y) {
  if (isa<FloatType>(x.getType()))
    return arith::MulFOp::create(b, loc, x, y);
  return arith::MulIOp::create(b, loc, x, y);
}

Value lowbit::onnx::maxScalars(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned) {
  if (isa<FloatType>(x.getType()))
    return arith::MaximumFOp::create(b, loc, x, y);
  if (isUnsigned || x.getType().isInteger(1))
    return arith::MaxUIOp::create(b, loc, x, y);
  return arith::MaxSIOp::create(b, loc, x, y);
}

Value lowbit::onnx::minScalars(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned) {
  if (isa<FloatType>(x.getType()))
    return arith::MinimumFOp::create(b, loc, x, y);
  if (isUnsigned || x.getType().isInteger(1))
    return arith::MinUIOp::create(b, loc, x, y);
  return arith::MinSIOp::create(b, loc, x, y);
}

/// ONNX leaves what is out of range open; here it saturates and NaN becomes the least value,
/// because a poison result may not be used as an index.
static Value floatToInteger(OpBuilder &b, Location loc, Value value, Type to) {
  unsigned width = to.getIntOrFloatBitWidth();
  bool isUnsigned = to.isUnsignedInteger();
  auto type = cast<FloatType>(value.getType());
  if (type.getWidth() < 32) {
    type = b.getF32Type();
    value = arith::ExtFOp::create(b, loc, type, value);
  }
  // The bounds as the nearest floats inside the range.
  auto bound = [&](APInt integer) -> Value {
    APFloat limit(type.getFloatSemantics());
    limit.convertFromAPInt(integer, !isUnsigned, APFloat::rmTowardZero);
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(type, limit));
  };
  Value low = bound(isUnsigned ? APInt::getMinValue(width) : APInt::getSignedMinValue(width));
  Value high = bound(isUnsigned ? APInt::getMaxValue(width) : APInt::getSignedMaxValue(width));
  value = arith::MaxNumFOp::create(b, loc, value, low);
  value = arith::MinNumFOp::create(b, loc, value, high);
  Type signless = toSignless(to);
  if (isUnsigned)
    return arith::FPToUIOp::create(b, loc, signless, value);
  return arith::FPToSIOp::create(b, loc, signless, value);
}

/// A narrow integer's byte, whose high bits a caller of the model may have left as they were.
static Value cleanByte(OpBuilder &b, Location loc, Value value, Type type) {
  unsigned width = type.getIntOrFloatBitWidth();
  Value shift = number(b, loc, b.getI8Type(), 8 - width);
  Value high = arith::ShLIOp::create(b, loc, value, shift);
  if (type.isUnsignedInteger())
    return arith::ShRUIOp::create(b, loc, high, shift);
  return arith::ShRSIOp::create(b, loc, high, shift);
}

Value lowbit::onnx::castScalar(OpBuilder &b, Location loc, Value value, Type from, Type to,
                               bool saturate, StringRef rounding) {
  Type target = toSignless(to);
  if (from == to)
    return value;
  auto fromFloat = dyn_cast<FloatType>(from), toFloat = dyn_cast<FloatType>(to);
  if (isByteStored(from)) {
    if (fromFloat)
      return castScalar(b, loc, extendMinifloat(b, loc, value, fromFloat), b.getF32Type(), to,
                        saturate, rounding);
    Type byte = from.isUnsignedInteger() ? b.getIntegerType(8, false) : (Type)b.getI8Type();
    return castScalar(b, loc, cleanByte(b, loc, value, from), byte, to, saturate, rounding);
  }
  if (isByteStored(to)) {
    if (toFloat)
      return roundToMinifloat(b, loc,
                              castScalar(b, loc, value, from, b.getF32Type(), saturate, rounding),
                              toFloat, saturate, rounding);
    // A number out of range loses its high bits, as onnx's reference does.
    if (fromFloat)
      value = floatToInteger(b, loc, value, b.getI32Type()), from = b.getI32Type();
    value = castScalar(b, loc, value, from, b.getI8Type());
    return cleanByte(b, loc, value, to);
  }
  if (fromFloat && toFloat) {
    // Between two 16-bit formats: through f32.
    if (fromFloat.getWidth() == toFloat.getWidth())
      return castScalar(b, loc, castScalar(b, loc, value, from, b.getF32Type()), b.getF32Type(),
                        to);
    if (toFloat.getWidth() > fromFloat.getWidth())
      return arith::ExtFOp::create(b, loc, target, value);
    return arith::TruncFOp::create(b, loc, target, value);
  }
  bool unsignedSource = from.isUnsignedInteger() || from.isInteger(1);
  if (toFloat) {
    if (unsignedSource)
      return arith::UIToFPOp::create(b, loc, target, value);
    return arith::SIToFPOp::create(b, loc, target, value);
  }
  if (to.isInteger(1)) {
    if (fromFloat)
      return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNE, value,
                                   number(b, loc, from, 0));
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, value,
                                 number(b, loc, toSignless(from), 0));
  }
  if (fromFloat)
    return floatToInteger(b, loc, value, to);
  unsigned width = target.getIntOrFloatBitWidth(), own = from.getIntOrFloatBitWidth();
  if (width == own)
    return value;
  if (width < own)
    return arith::TruncIOp::create(b, loc, target, value);
  if (unsignedSource)
    return arith::ExtUIOp::create(b, loc, target, value);
  return arith::ExtSIOp::create(b, loc, target, value);
}
