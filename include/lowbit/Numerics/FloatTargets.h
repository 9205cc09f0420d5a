//===- lowbit/Numerics/FloatTargets.h - weights that answer for others ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A layer of a model that is quantized front to back sees inputs x that are not
// the float model's x_f. Weights whose output on x comes near W x_f make up for
// part of what the layers before did (cf. GPTAQ, Li et al., arXiv:2504.02692).
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_FLOATTARGETS_H
#define LOWBIT_NUMERICS_FLOATTARGETS_H

#include "lowbit/Numerics/Moments.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lowbit {

/// C = Σ xᵀ(x_f - x) [K, K] over pairs of rows: of the quantized and of the float model, on the
/// same sample. Like Moments independent of how calls cut the rows and of `threads`. Memory:
/// 4 K² bytes and 3 KiB per column of waiting rows.
class CrossMoments {
public:
  explicit CrossMoments(int64_t cols = 0);

  /// Adds `count` pairs of rows, each `stride` floats apart in both.
  void add(const float *x, const float *xFloat, int64_t count, int64_t stride,
           unsigned threads = 0);
  void finish(unsigned threads = 0);
  bool finished() const { return waiting == 0; }

  int64_t cols() const { return size; }
  int64_t count() const { return rowCount; }
  bool finite() const;
  /// Less what the means contribute: Σ (x - μ)ᵀ((x_f - x) - mean of it). For layers whose bias
  /// takes up the means. The moments are those of x.
  CrossMoments centered(const Moments &moments) const;
  /// E[x_f,k - x_k].
  double meanDifference(int64_t k) const {
    return rowCount ? differences[k] / double(rowCount) : 0;
  }
  /// C [cols, cols], column-major.
  const std::vector<float> &matrix() const { return sums; }

private:
  void addBlock(unsigned threads);

  int64_t size = 0, rowCount = 0, waiting = 0;
  std::vector<float> sums;
  std::vector<double> differences;
  std::vector<float> block, differenceBlock;
};

/// T = W + strength · W Cᵀ (H + ridge · mean H_kk)⁻¹ [rows, cols]: for strength 1 and no ridge the
/// least squares answer to T x ≈ W x_f. The ridge and a strength below 1 keep it from fitting the
/// calibration rows more than the model. Grouped convolutions as in roundWeights. Nothing, with the
/// reason in `error`, where sizes do not match, something is not finite, or H + ridge is not
/// positive definite. Memory: 4 K² bytes beside its arguments.
std::optional<std::vector<float>> floatTargets(const float *w, int64_t rows, int64_t cols,
                                               const std::vector<Moments> &moments,
                                               const std::vector<CrossMoments> &cross,
                                               double strength, double ridge, unsigned threads,
                                               std::string &error);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_FLOATTARGETS_H
