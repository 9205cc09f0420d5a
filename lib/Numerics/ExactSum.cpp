//===- ExactSum.cpp - a sum without rounding --------------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/ExactSum.h"

#include <cmath>
#include <cstring>

namespace lowbit {

void ExactSum::add(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  uint32_t exponent = (bits >> 23) & 0xff, mantissa = bits & 0x7fffff;
  // value = mantissa * 2^(shift - 149).
  uint32_t shift = exponent == 0 ? 0 : exponent - 1;
  if (exponent != 0)
    mantissa |= 0x800000;
  uint64_t piece = uint64_t(mantissa) << (shift % 32);
  int64_t low = int64_t(piece & 0xffffffffu), high = int64_t(piece >> 32);
  bool negative = bits >> 31 != 0;
  limbs[shift / 32] += negative ? -low : low;
  limbs[shift / 32 + 1] += negative ? -high : high;
  if (++additions == maxAdditions) {
    limbs = digits();
    additions = 0;
  }
}

ExactSum::Digits ExactSum::digits() const {
  Digits result = limbs;
  for (size_t i = 0; i + 1 < result.size(); ++i) {
    int64_t carry =
        result[i] >> 32; // Towards minus infinity, so that what is left is not negative.
    result[i] &= 0xffffffff;
    result[i + 1] += carry;
  }
  return result;
}

void ExactSum::merge(const ExactSum &other) {
  limbs = digits();
  Digits more = other.digits();
  for (size_t i = 0; i < limbs.size(); ++i)
    limbs[i] += more[i];
  additions = 1;
}

double ExactSum::value() const {
  Digits all = digits();
  double sum = 0;
  for (size_t i = all.size(); i-- > 0;)
    sum += std::ldexp(double(all[i]), int(32 * i) - 149);
  return sum;
}

} // namespace lowbit
