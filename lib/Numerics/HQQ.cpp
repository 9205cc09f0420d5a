//===- HQQ.cpp - zero points by half-quadratic splitting --------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Σ |w - ŵ|^p with p < 1 lets a few large weights be wrong. Split into an error e
// that is paid for by |e|^p and a quadratic distance β/2 |w - ŵ - e|², it is solved
// by turns: e is a shrinkage of w - ŵ, then scale and zero point are those of least
// squares for w - e. Errors are in steps of the scale, so that β means the same for
// every layer. The paper keeps the real zero point; ours are integers, and rounding
// it undoes most of what was gained. So the solution is sought from several ranges,
// its scale too, and what is best after rounding, by the squared error, is taken.
//
//===----------------------------------------------------------------------===//
#include "HQQ.h"

#include "EigenSetup.h"
#include "RangeSearch.h"
#include "lowbit/Numerics/Parallel.h"
#include "lowbit/Numerics/Quantize.h"

#include <cfloat>
#include <cmath>

namespace lowbit {

using Eigen::ArrayXf;
using Floats = Eigen::Map<const ArrayXf>;

static constexpr float norm = 0.7f;

namespace {
struct Splitting {
  Floats w;
  float lo, hi;
  bool symmetric;

  /// The integers for a real zero point.
  ArrayXf round(float scale, float zero) const { return (w / scale + zero).rint().max(lo).min(hi); }
  double cost(QuantParams p) const {
    // A range may be a whole tensor: sums of floats stay short.
    ArrayXf e = (w - (round(p.scale, float(p.zero)) - float(p.zero)) * p.scale).square();
    double sum = 0;
    for (int64_t i = 0; i < e.size(); i += 512)
      sum += double(e.segment(i, std::min<int64_t>(512, e.size() - i)).sum());
    return sum;
  }
  QuantParams solve(QuantParams start) const;
};
} // namespace

QuantParams Splitting::solve(QuantParams start) const {
  float scale = start.scale, zero = float(start.zero), beta = 10.0f;
  // Twenty steps for both, then, with the zero point rounded, ten for the scale that goes with it.
  for (int step = 0; step < 30; ++step, beta *= 1.01f) {
    if (step == 20)
      zero = std::nearbyint(zero);
    ArrayXf q = round(scale, zero);
    ArrayXf e = w / scale - (q - zero);
    ArrayXf size = e.abs().max(FLT_MIN);
    e = e.sign() * (size - size.pow(norm - 1.0f) / beta).max(0.0f);
    ArrayXf fitted = w / scale - e;
    if (!symmetric && step < 20)
      zero = std::min(std::max((q - fitted).mean(), lo), hi);
    float square = (q - zero).square().sum();
    if (square > 0) {
      float factor = ((q - zero) * fitted).sum() / square;
      if (factor > 0.9f && factor < 1.1f)
        scale *= factor;
    }
  }
  return {std::max(scale, FLT_MIN), int32_t(std::nearbyint(zero))};
}

static QuantParams fit(const float *values, int64_t count, IntType type, bool symmetric,
                       QuantParams plain) {
  Floats w(values, count);
  if (count == 0 || (w == 0.0f).all())
    return plain;
  Splitting problem{w, float(minValue(type)), float(maxValue(type)), symmetric};
  float min = w.minCoeff(), max = w.maxCoeff();
  QuantParams best = plain;
  double bestCost = problem.cost(plain);
  // The problem is not convex: from several ranges.
  for (float keep : {1.0f, 0.95f, 0.9f, 0.85f, 0.8f, 0.75f, 0.7f}) {
    QuantParams found = problem.solve(*chooseParams(min * keep, max * keep, type, symmetric));
    double own = problem.cost(found);
    if (own < bestCost) {
      best = found;
      bestCost = own;
    }
  }
  return best;
}

void hqq(const float *w, unsigned threads, QuantizedWeights &result) {
  const Scheme &scheme = result.scheme;
  bool whole = scheme.granularity == Scheme::Granularity::Tensor;
  bool grouped = scheme.granularity == Scheme::Granularity::Group;
  int64_t lines = whole ? 1 : result.rows, line = whole ? result.rows * result.cols : result.cols;
  int64_t step = grouped ? scheme.group : line;
  if (line == 0)
    return;
  constexpr int64_t piece = 32;
  parallelFor((lines + piece - 1) / piece, threads, [&](int64_t p) {
    for (int64_t r = p * piece; r < std::min(lines, (p + 1) * piece); ++r)
      for (int64_t c = 0; c < line; c += step) {
        int64_t index = whole ? 0 : result.scaleIndex(r, c);
        QuantParams params = fit(w + r * line + c, std::min(step, line - c), scheme.type,
                                 scheme.symmetric, {result.scales[index], result.zeros[index]});
        result.scales[index] = params.scale;
        result.zeros[index] = params.zero;
      }
  });
  roundToNearest(w, result);
}

} // namespace lowbit
