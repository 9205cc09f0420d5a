//===- Remainder.cpp - the exact remainder of a float division ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "DeviceMath.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include <limits>

using namespace lowbit;

namespace {
/// Arithmetic on one float type.
struct Floats {
  ImplicitLocOpBuilder &b;
  FloatType type;
  IntegerType bits;
  int64_t mantissa; ///< Bits of the stored mantissa.

  Floats(ImplicitLocOpBuilder &b, FloatType type)
      : b(b), type(type), bits(b.getIntegerType(type.getWidth())),
        mantissa(type.getFPMantissaWidth() - 1) {}
  Value number(double value) const {
    return arith::ConstantOp::create(b, b.getFloatAttr(type, value));
  }
  Value integer(int64_t value) const {
    return arith::ConstantOp::create(b, b.getIntegerAttr(bits, value));
  }
  Value is(arith::CmpFPredicate predicate, Value x, Value y) const {
    return arith::CmpFOp::create(b, predicate, x, y);
  }
  Value select(Value condition, Value x, Value y) const {
    return arith::SelectOp::create(b, condition, x, y);
  }
  /// The largest power of two that is at most x, a normal positive number.
  Value powerBelow(Value x) const {
    int64_t exponent = ((int64_t(1) << (bits.getWidth() - 1 - mantissa)) - 1) << mantissa;
    Value word = arith::BitcastOp::create(b, bits, x);
    return arith::BitcastOp::create(b, type, arith::AndIOp::create(b, word, integer(exponent)));
  }
};
} // namespace

/// One step: r − y·2^k with the largest k that leaves something positive. Both are scaled by powers
/// of two only, and the difference of two numbers within a factor of two is exact (Sterbenz, 1974).
static Value reduce(const Floats &f, Value r, Value y) {
  ImplicitLocOpBuilder &b = f.b;
  Value scale = arith::DivFOp::create(b, f.powerBelow(r), f.powerBelow(y));
  Value multiple = arith::MulFOp::create(b, y, scale);
  Value half = arith::MulFOp::create(b, y, arith::MulFOp::create(b, scale, f.number(0.5)));
  Value fits = f.is(arith::CmpFPredicate::OLE, multiple, r);
  return arith::SubFOp::create(b, r, f.select(fits, multiple, half));
}

bool cuda::expandRemainder(Operation *op) {
  auto remainder = dyn_cast<arith::RemFOp>(op);
  auto type = remainder ? dyn_cast<FloatType>(remainder.getType()) : FloatType();
  if (!type || !(type.isF16() || type.isBF16() || type.isF32() || type.isF64()))
    return false;
  ImplicitLocOpBuilder b(op->getLoc(), op);
  // Subnormal f32 are normal f64; those of f64 are too small for any remainder that is asked for.
  bool widen = !type.isF64();
  Floats f(b, widen ? FloatType(b.getF64Type()) : type);
  Value x = remainder.getLhs(), y = remainder.getRhs();
  if (widen)
    x = arith::ExtFOp::create(b, f.type, x), y = arith::ExtFOp::create(b, f.type, y);
  Value magnitude = math::AbsFOp::create(b, x), divisor = math::AbsFOp::create(b, y);
  // x infinite or NaN, y zero or NaN: NaN. Of an infinite y nothing is subtracted.
  Value bounded = f.is(arith::CmpFPredicate::OLT, magnitude,
                       f.number(std::numeric_limits<double>::infinity()));
  Value nonzero = f.is(arith::CmpFPredicate::OGT, divisor, f.number(0));
  Value defined = arith::AndIOp::create(b, bounded, nonzero);
  Value start = f.select(defined, magnitude, f.number(0));
  auto loop = scf::WhileOp::create(
      b, TypeRange{f.type}, ValueRange{start},
      [&](OpBuilder &inner, Location loc, ValueRange r) {
        Value more = arith::CmpFOp::create(inner, loc, arith::CmpFPredicate::OGE, r[0], divisor);
        more = arith::AndIOp::create(inner, loc, more, defined);
        scf::ConditionOp::create(inner, loc, more, r);
      },
      [&](OpBuilder &inner, Location loc, ValueRange r) {
        ImplicitLocOpBuilder body(loc, inner);
        Value next = reduce(Floats(body, f.type), r[0], divisor);
        scf::YieldOp::create(inner, loc, next);
      });
  Value result = math::CopySignOp::create(b, loop.getResult(0), x);
  result = f.select(defined, result, f.number(std::numeric_limits<double>::quiet_NaN()));
  // The remainder has no more digits than the divisor: nothing is rounded on the way back.
  if (widen)
    result = arith::TruncFOp::create(b, b.getF32Type(), result);
  if (widen && !type.isF32())
    result = arith::TruncFOp::create(b, type, result);
  op->replaceAllUsesWith(ValueRange{result});
  op->erase();
  return true;
}
