//===- RangeSearch.cpp - parameters of the smallest rounding error ----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "RangeSearch.h"

#include "EigenSetup.h"

#include <cfloat>
#include <cmath>

namespace lowbit {

using Eigen::ArrayXf;
using Floats = Eigen::Map<const ArrayXf>;

QuantParams minMaxParams(const float *w, int64_t count, IntType type, bool symmetric) {
  if (count == 0)
    return QuantParams();
  Floats values(w, count);
  return *chooseParams(values.minCoeff(), values.maxCoeff(), type, symmetric);
}

namespace {
/// The loss of candidates over one range.
struct Search {
  const float *w, *importance;
  int64_t count;
  float lo, hi;
  double norm;
  /// Scratch of a segment, so that sums of floats stay short.
  static constexpr int64_t segment = 512;
  ArrayXf q, d;

  void round(int64_t begin, int64_t n, QuantParams p) {
    q = ((Floats(w + begin, n) * (1.0f / p.scale)).rint() + float(p.zero)).max(lo).min(hi) -
        float(p.zero);
  }

  double loss(QuantParams p) {
    double sum = 0;
    for (int64_t begin = 0; begin < count; begin += segment) {
      int64_t n = std::min(segment, count - begin);
      round(begin, n, p);
      d = Floats(w + begin, n) - q * p.scale;
      d *= d;
      if (norm != 2.0)
        d = d.pow(float(norm / 2));
      if (importance)
        d *= Floats(importance + begin, n);
      sum += double(d.sum());
    }
    return sum;
  }

  /// The scale of least squares for the integers that `p` rounds to.
  std::optional<float> refit(QuantParams p) {
    double product = 0, square = 0;
    for (int64_t begin = 0; begin < count; begin += segment) {
      int64_t n = std::min(segment, count - begin);
      round(begin, n, p);
      d = importance ? ArrayXf(q * Floats(importance + begin, n)) : q;
      product += double((d * Floats(w + begin, n)).sum());
      square += double((d * q).sum());
    }
    float scale = float(product / square);
    if (!(scale >= FLT_MIN) || !std::isfinite(scale))
      return std::nullopt;
    return scale;
  }
};
} // namespace

QuantParams searchParams(const float *w, const float *importance, int64_t count, IntType type,
                         bool symmetric, double norm) {
  QuantParams best = minMaxParams(w, count, type, symmetric);
  if (count == 0 || (Floats(w, count) == 0.0f).all())
    return best;
  Floats values(w, count);
  float min = values.minCoeff(), max = values.maxCoeff();
  // Columns that never saw an input say nothing; where all are such, every weight counts the same.
  if (importance && !(Floats(importance, count) > 0.0f).any())
    importance = nullptr;
  Search search{w, importance, count, float(minValue(type)), float(maxValue(type)), norm, {}, {}};
  double bestLoss = search.loss(best);
  auto consider = [&](QuantParams candidate) {
    double loss = search.loss(candidate);
    if (!(loss < bestLoss))
      return false;
    best = candidate;
    bestLoss = loss;
    return true;
  };
  constexpr int steps = 80;
  for (int i = 1; i < steps; ++i) {
    float keep = 1.0f - float(i) / 100.0f;
    consider(*chooseParams(min * keep, max * keep, type, symmetric));
  }
  for (int round = 0; round < 4; ++round) {
    bool better = false;
    if (!symmetric)
      for (int32_t step : {-1, 1}) {
        int64_t zero = int64_t(best.zero) + step;
        if (zero >= minValue(type) && zero <= maxValue(type))
          better |= consider({best.scale, int32_t(zero)});
      }
    if (std::optional<float> scale = search.refit(best))
      better |= consider({*scale, best.zero});
    if (!better)
      break;
  }
  return best;
}

} // namespace lowbit
