//===- Num.h - scalar arithmetic written as expressions ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For lowerings whose one element is a formula of a dozen terms: coordinates,
// interpolation, gates. Operators make arith and math ops of the operands' type;
// integers are signed.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_NUM_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_NUM_H

#include "Lowering.h"

namespace lowbit::onnx {

/// A scalar (float, signless integer or index) at the insertion point of a builder.
class Num {
public:
  Num(OpBuilder &b, Location loc, Value value) : b(&b), loc(loc), v(value) {}

  Value value() const { return v; }
  operator Value() const { return v; }
  Type type() const { return v.getType(); }
  /// A constant of this one's type.
  Num like(double number) const;
  /// The same number as `type`. Floats become integers as ONNX's Cast does it: saturating, NaN the
  /// least value.
  Num to(Type type) const;
  Num toIndex() const;

  Num operator+(const Num &y) const;
  Num operator-(const Num &y) const;
  Num operator*(const Num &y) const;
  /// Of integers: rounds towards 0.
  Num operator/(const Num &y) const;
  Num operator+(double y) const { return *this + like(y); }
  Num operator-(double y) const { return *this - like(y); }
  Num operator*(double y) const { return *this * like(y); }
  Num operator/(double y) const { return *this / like(y); }
  Num operator-() const { return like(0) - *this; }
  /// i1; of floats false where one is a NaN.
  Num operator<(const Num &y) const;
  Num operator>(const Num &y) const { return y < *this; }
  Num operator<=(const Num &y) const;
  Num operator>=(const Num &y) const { return y <= *this; }
  Num operator==(const Num &y) const;
  Num operator<(double y) const { return *this < like(y); }
  Num operator>(double y) const { return *this > like(y); }
  Num operator<=(double y) const { return *this <= like(y); }
  Num operator>=(double y) const { return *this >= like(y); }
  Num operator==(double y) const { return *this == like(y); }
  /// Of i1.
  Num operator&(const Num &y) const;
  Num operator|(const Num &y) const;
  Num operator!() const;
  Num select(const Num &yes, const Num &no) const;

  Num rem(const Num &y) const;
  Num min(const Num &y) const;
  Num max(const Num &y) const;
  Num min(double y) const { return min(like(y)); }
  Num max(double y) const { return max(like(y)); }
  Num floor() const;
  Num ceil() const;
  Num roundEven() const;
  Num abs() const;
  Num exp() const;
  Num log1p() const;
  Num tanh() const;
  Num sqrt() const;
  Num pow(const Num &y) const;

private:
  Num make(Value value) const { return {*b, loc, value}; }
  OpBuilder *b;
  Location loc;
  Value v;
};

/// Where scalars come from, in the body of a linalg op or of a loop.
struct Scope {
  OpBuilder &b;
  Location loc;

  Num num(Value value) const { return {b, loc, value}; }
  Num index(int64_t value) const;
  Num size(OpFoldResult value) const;
  Num constant(Type type, double value) const;
  /// The index of loop `dim` of the surrounding linalg op.
  Num loopIndex(unsigned dim) const;
  /// The element of `tensor` at `indices`, which must be in bounds.
  Num read(Value tensor, ArrayRef<Num> indices) const;
  /// Runs `body` for i in [0, count) and hands its state on.
  SmallVector<Num>
  loop(Num count, ArrayRef<Num> state,
       llvm::function_ref<SmallVector<Num>(Scope, Num i, ArrayRef<Num> state)> body) const;
  /// The same over every combination of indices in `counts`, the last one fastest.
  SmallVector<Num>
  loops(ArrayRef<Num> counts, ArrayRef<Num> state,
        llvm::function_ref<SmallVector<Num>(Scope, ArrayRef<Num> at, ArrayRef<Num> state)> body)
      const;
  /// One of the two, computed only where it is chosen.
  Num choose(Num condition, llvm::function_ref<Num(Scope)> yes,
             llvm::function_ref<Num(Scope)> no) const;
};

/// A tensor of `sizes` whose every element is `body` of its indices. Where `guard` (i1) is given
/// and false, every element is 0 and the body does not run: for what must not be read after a
/// failed check.
Value tabulate(Lowering &l, ArrayRef<OpFoldResult> sizes, Type element,
               llvm::function_ref<Num(Scope, ArrayRef<Num> at)> body, Value guard = {});

/// Operand `operand`, a list that must have `count` entries; where only the run knows its length,
/// checked then.
Value listOperand(Lowering &l, unsigned operand, int64_t count);

/// The type that averages, interpolation and gates of `element` are computed in: at least f32; f64
/// where the numbers of `element` need it.
Type realType(Type element);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_NUM_H
