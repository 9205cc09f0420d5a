//===- Minifloats.cpp - conversions of floats of at most 8 bits -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Such a value is a byte while it is lowered: no later pass has to know its type.
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "llvm/ADT/APFloat.h"

using namespace lowbit;
using namespace lowbit::onnx;

namespace {
/// What tells one format from another. Codes are without the sign bit.
struct Format {
  explicit Format(FloatType type) : semantics(type.getFloatSemantics()) {
    width = type.getWidth();
    mantissa = APFloat::semanticsPrecision(semantics) - 1;
    minExponent = APFloat::semanticsMinExponent(semantics);
    hasSign = APFloat::semanticsHasSignedRepr(semantics);
    hasInf = APFloat::semanticsHasInf(semantics);
    hasNaN = APFloat::semanticsHasNaN(semantics);
    largest = code(APFloat::getLargest(semantics));
    if (hasInf)
      inf = code(APFloat::getInf(semantics));
    if (hasNaN)
      nan = code(APFloat::getNaN(semantics));
    // FNUZ formats: the code of −0 is the NaN.
    negativeZeroIsNaN = hasNaN && hasSign && nan == 1u << (width - 1);
  }
  static unsigned code(const APFloat &value) { return value.bitcastToAPInt().getZExtValue(); }

  const llvm::fltSemantics &semantics;
  unsigned width, mantissa, largest, inf = 0, nan = 0;
  int minExponent; ///< Of the least normal number.
  bool hasSign, hasInf, hasNaN, negativeZeroIsNaN;
};

/// Scalars of i32 and f32.
struct BitBuilder {
  OpBuilder &b;
  Location loc;

  Value constant(uint32_t bits) {
    return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(int32_t(bits)));
  }
  Value number(double value) {
    return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(float(value)));
  }
  Value bits(Value value) { return arith::BitcastOp::create(b, loc, b.getI32Type(), value); }
  Value real(Value value) { return arith::BitcastOp::create(b, loc, b.getF32Type(), value); }
  Value add(Value x, Value y) { return arith::AddIOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return arith::SubIOp::create(b, loc, x, y); }
  Value both(Value x, uint32_t y) { return arith::AndIOp::create(b, loc, x, constant(y)); }
  Value either(Value x, Value y) { return arith::OrIOp::create(b, loc, x, y); }
  Value left(Value x, unsigned n) { return arith::ShLIOp::create(b, loc, x, constant(n)); }
  Value right(Value x, unsigned n) { return arith::ShRUIOp::create(b, loc, x, constant(n)); }
  Value is(arith::CmpIPredicate how, Value x, uint32_t y) {
    return arith::CmpIOp::create(b, loc, how, x, constant(y));
  }
  Value choose(Value condition, Value x, Value y) {
    return arith::SelectOp::create(b, loc, condition, x, y);
  }
};
} // namespace

static constexpr unsigned f32Mantissa = 23, f32Bias = 127, f32Inf = 0x7f800000, f32NaN = 0x7fc00000;
using Compare = arith::CmpIPredicate;

bool lowbit::onnx::isByteStored(Type type) {
  if (isa<FloatType>(type))
    return type.getIntOrFloatBitWidth() <= 8;
  return isa<IntegerType>(type) && type.getIntOrFloatBitWidth() < 8 && !type.isInteger(1);
}

/// e8m0 is a power of two, 2^(code − 127), or NaN.
static Value extendE8M0(BitBuilder &b, Value code) {
  Value normal = b.left(code, f32Mantissa);
  Value least = b.choose(b.is(Compare::eq, code, 0), b.constant(1u << (f32Mantissa - 1)), normal);
  return b.real(b.choose(b.is(Compare::eq, code, 255), b.constant(f32NaN), least));
}

Value lowbit::onnx::extendMinifloat(OpBuilder &builder, Location loc, Value byte, FloatType from) {
  BitBuilder b{builder, loc};
  Format format(from);
  Value code = arith::ExtUIOp::create(builder, loc, builder.getI32Type(), byte);
  if (!format.hasSign)
    return extendE8M0(b, code);
  Value sign = b.left(b.both(code, 1u << (format.width - 1)), 32 - format.width);
  Value rest = b.both(code, (1u << (format.width - 1)) - 1);
  unsigned rebias = f32Bias - 1 + format.minExponent; // Exponent field 1 is minExponent.
  Value normal =
      b.add(b.left(rest, f32Mantissa - format.mantissa), b.constant(rebias << f32Mantissa));
  Value mantissa = arith::UIToFPOp::create(builder, loc, builder.getF32Type(), rest);
  Value subnormal = b.bits(
      arith::MulFOp::create(builder, loc, mantissa,
                            b.number(std::ldexp(1.0, format.minExponent - int(format.mantissa)))));
  Value result = b.choose(b.is(Compare::ult, rest, 1u << format.mantissa), subnormal, normal);
  if (format.hasInf) {
    result = b.choose(b.is(Compare::eq, rest, format.inf), b.constant(f32Inf), result);
    result = b.choose(b.is(Compare::ugt, rest, format.inf), b.constant(f32NaN), result);
  } else if (format.hasNaN && !format.negativeZeroIsNaN) {
    result = b.choose(b.is(Compare::eq, rest, format.nan), b.constant(f32NaN), result);
  }
  result = b.either(result, sign);
  if (format.negativeZeroIsNaN)
    result = b.choose(b.is(Compare::eq, code, format.nan), b.constant(f32NaN), result);
  return b.real(result);
}

static Value roundToE8M0(BitBuilder &b, Value value, StringRef rounding, bool saturate) {
  Value magnitude = b.both(b.bits(value), 0x7fffffff);
  Value exponent = b.right(magnitude, f32Mantissa);
  Value rest = b.both(magnitude, (1u << f32Mantissa) - 1);
  Value up = rounding == "down"      ? b.is(Compare::ult, rest, 0) // never
             : rounding == "nearest" ? b.is(Compare::uge, rest, 1u << (f32Mantissa - 1))
                                     : b.is(Compare::ne, rest, 0);
  Value code = b.add(exponent, arith::ExtUIOp::create(b.b, b.loc, b.b.getI32Type(), up));
  Value tooLarge = b.is(Compare::ugt, code, 254);
  code = b.choose(tooLarge, b.constant(saturate ? 254 : 255), code);
  code = b.choose(b.is(Compare::ugt, magnitude, f32Inf), b.constant(255), code);
  return arith::TruncIOp::create(b.b, b.loc, b.b.getI8Type(), code);
}

Value lowbit::onnx::roundToMinifloat(OpBuilder &builder, Location loc, Value value, FloatType to,
                                     bool saturate, StringRef rounding) {
  BitBuilder b{builder, loc};
  Format format(to);
  if (!format.hasSign)
    return roundToE8M0(b, value, rounding, saturate);
  Value bits = b.bits(value);
  Value sign = b.right(b.both(bits, 1u << 31), 32 - format.width);
  Value magnitude = b.both(bits, 0x7fffffff);
  unsigned shift = f32Mantissa - format.mantissa;
  unsigned rebias = f32Bias - 1 + format.minExponent;
  // Round to nearest even: half of a unit less one, and one more where the last bit kept is odd.
  Value rounded = b.add(b.add(magnitude, b.constant((1u << (shift - 1)) - 1)),
                        b.both(b.right(magnitude, shift), 1));
  Value normal = b.sub(b.right(rounded, shift), b.constant(rebias << format.mantissa));
  // Added to 2^23 units of the least subnormal, the sum's last bit is that unit: the addition
  // rounds.
  Value anchor =
      b.number(std::ldexp(1.0, format.minExponent - int(format.mantissa) + int(f32Mantissa)));
  Value sum = arith::AddFOp::create(builder, loc, b.real(magnitude), anchor);
  Value subnormal = b.sub(b.bits(sum), b.bits(anchor));
  uint32_t leastNormal = (f32Bias + format.minExponent) << f32Mantissa;
  Value code = b.choose(b.is(Compare::ult, magnitude, leastNormal), subnormal, normal);
  unsigned beyond = saturate || (!format.hasInf && !format.hasNaN) ? format.largest
                    : format.hasInf                                ? format.inf
                                                                   : format.nan;
  Value tooLarge = b.is(Compare::ugt, code, format.largest);
  code = b.choose(tooLarge, b.constant(beyond), code);
  Value signedCode = b.either(code, sign);
  if (format.negativeZeroIsNaN) // Neither −0 nor −NaN.
    signedCode = b.choose(b.is(Compare::eq, b.both(code, format.nan - 1), 0), code, signedCode);
  if (format.hasNaN)
    signedCode = b.choose(b.is(Compare::ugt, magnitude, f32Inf),
                          format.negativeZeroIsNaN ? b.constant(format.nan)
                                                   : b.either(b.constant(format.nan), sign),
                          signedCode);
  else // No code for a NaN: zero, as onnx's reference does.
    signedCode = b.choose(b.is(Compare::ugt, magnitude, f32Inf), b.constant(0), signedCode);
  return arith::TruncIOp::create(builder, loc, builder.getI8Type(), signedCode);
}
