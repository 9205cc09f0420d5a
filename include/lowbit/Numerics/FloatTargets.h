//===- lowbit/Numerics/FloatTargets.h - weights that make up for their inputs -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A layer behind quantized layers gets inputs x that are not the inputs f of the float
// model. What its quantized weights are to give is W f, not W x: as in Li et al., GPTAQ
// (arXiv:2504.02692), the weights are moved towards the least squares answer before they
// are rounded,
//
//   T = W + step · W Cᵀ (H + ridge · mean(diag H) · I)⁻¹,   H = E[x xᵀ],  C = E[x (f - x)ᵀ].
//
// step 1 would be that answer on the calibration data; half of it generalizes better.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_FLOATTARGETS_H
#define LOWBIT_NUMERICS_FLOATTARGETS_H

#include "lowbit/Numerics/Moments.h"

#include <cstdint>
#include <vector>

namespace lowbit {

/// Σ x (f - x)ᵀ over rows: [cols, cols], 8 bytes an element.
class CrossMoments {
public:
  explicit CrossMoments(int64_t cols = 0) : n(cols), sums(cols * cols) {}

  /// Adds `count` rows of the quantized model's inputs and of the float model's for the same
  /// sample, both [count, cols].
  void add(const float *x, const float *reference, int64_t count, unsigned threads = 0);

  int64_t cols() const { return n; }
  int64_t count() const { return rowCount; }
  /// Column-major.
  const std::vector<double> &matrix() const { return sums; }

private:
  int64_t n, rowCount = 0;
  std::vector<double> sums;
};

struct FloatTargetOptions {
  double step = 0.5, ridge = 0.1;
  unsigned threads = 0;
};

/// Replaces w [rows, cols], row-major, by T. `moments` (finished) and `cross`: one each, or one per
/// group of a grouped convolution, whose rows are cut evenly. False, and w unchanged, where the
/// system has no solution (no rows, or not finite).
bool moveToFloatTargets(float *w, int64_t rows, int64_t cols, const std::vector<Moments> &moments,
                        const std::vector<CrossMoments> &cross, const FloatTargetOptions &options);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_FLOATTARGETS_H
