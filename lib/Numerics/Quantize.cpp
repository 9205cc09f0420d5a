//===- Quantize.cpp - the arithmetic of one value ---------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Quantize.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

namespace lowbit {

float roundHalfEven(float x) { return std::nearbyintf(x); }

/// Saturates an integral value plus zero point. Comparing before adding keeps huge values and
/// infinities out of the integer conversion; doubles hold every int32 sum exactly. The comparison
/// sends NaN to `lo`.
static int32_t saturate(float rounded, int32_t zero, int64_t lo, int64_t hi) {
  double value = double(rounded) + zero;
  if (!(value >= double(lo)))
    return int32_t(lo);
  return value > double(hi) ? int32_t(hi) : int32_t(value);
}

int32_t quantize(float x, float scale, int32_t zero, IntType type) {
  return saturate(roundHalfEven(x / scale), zero, minValue(type), maxValue(type));
}

float dequantize(int32_t q, float scale, int32_t zero) { return float(int64_t(q) - zero) * scale; }

std::optional<QuantParams> chooseParams(float min, float max, IntType type, bool symmetric) {
  if (!std::isfinite(min) || !std::isfinite(max) || min > max)
    return std::nullopt;
  // Doubles: max - min may exceed the range of float.
  double lo = std::min(double(min), 0.0), hi = std::max(double(max), 0.0);
  int64_t half = int64_t(1) << (bitWidth(type) - 1);
  QuantParams params;
  if (symmetric)
    params.zero = isSigned(type) ? 0 : int32_t(half);
  if (lo == 0.0 && hi == 0.0) {
    if (!symmetric)
      params.zero = int32_t(std::max<int64_t>(minValue(type), 0));
    return params;
  }
  double range = symmetric ? std::max(-lo, hi) : hi - lo;
  double steps = symmetric ? double(half - 1) : double(maxValue(type) - minValue(type));
  params.scale = std::max(float(range / steps), FLT_MIN);
  if (symmetric)
    return params;
  double zero = std::nearbyint(double(minValue(type)) - lo / double(params.scale));
  params.zero = int32_t(std::clamp(zero, double(minValue(type)), double(maxValue(type))));
  return params;
}

float requantMultiplier(float inputScale, float weightScale, float outputScale) {
  return float(double(inputScale) * double(weightScale) / double(outputScale));
}

int32_t requantize(int32_t acc, int32_t bias, float multiplier, int32_t zero, int32_t lo,
                   int32_t hi) {
  int32_t sum = int32_t(uint32_t(acc) + uint32_t(bias));
  float scaled = float(sum) * multiplier;
  return saturate(roundHalfEven(scaled), zero, lo, hi);
}

} // namespace lowbit
