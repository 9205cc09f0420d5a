//===- lowbit/Numerics/ExactSum.h - a sum without rounding ------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_EXACTSUM_H
#define LOWBIT_NUMERICS_EXACTSUM_H

#include <array>
#include <cstdint>

namespace lowbit {

/// The exact sum of f32 values, as an integer multiple of 2^-149 (the smallest denormal): the same
/// for every order and every way to cut the data into parts.
class ExactSum {
public:
  /// Digits of 32 bits, the least significant first; all but the last are in [0, 2^32).
  using Digits = std::array<int64_t, 10>;

  /// `value` is finite.
  void add(float value);
  void merge(const ExactSum &other);
  /// The sum, rounded to double.
  double value() const;

  Digits digits() const;
  void setDigits(const Digits &digits) { limbs = digits; }

private:
  /// The limbs take 2^31 additions before a carry is due.
  static constexpr int64_t maxAdditions = int64_t(1) << 29;
  Digits limbs{};
  int64_t additions = 0;
};

} // namespace lowbit

#endif // LOWBIT_NUMERICS_EXACTSUM_H
