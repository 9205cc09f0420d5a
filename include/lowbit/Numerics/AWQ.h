//===- lowbit/Numerics/AWQ.h - scales of a layer's inputs -------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The first part of Lin et al., arXiv:2306.00978: W x = (W s)(x / s). Columns whose
// inputs are large are scaled up before rounding, which makes their error smaller;
// what computes x divides by s. Layers that share x share s.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_AWQ_H
#define LOWBIT_NUMERICS_AWQ_H

#include "lowbit/Numerics/Moments.h"
#include "lowbit/Numerics/RoundWeights.h"

#include <optional>
#include <string>
#include <vector>

namespace lowbit {

/// One of the layers that share an input: weights [rows, cols], row-major, not owned.
struct AWQLayer {
  const float *w = nullptr;
  int64_t rows = 0;
  Scheme scheme;
};

struct AWQOptions {
  /// alpha = 0, 1/steps, … (steps - 1)/steps.
  int steps = 20;
  /// How the scaled weights are rounded while alpha is sought.
  WeightRange range = WeightRange::MinMax;
  /// Class of each column, from 0 on; columns of a class share their scale, which is that of the
  /// mean |x| over the class. Where one producer's channel feeds several columns (grouped-query
  /// attention). Empty: each its own.
  std::vector<int64_t> classes;
  /// 0: one per core.
  unsigned threads = 0;
};

struct AWQScales {
  /// s [cols], > 0; all 1 where alpha is 0.
  std::vector<float> scales;
  double alpha = 0;
  /// Σ over the layers of tr(E H Eᵀ) / Σ tr(W H Wᵀ) with E = W - Q(W s) / s: with these scales, and
  /// with none.
  double error = 0, plainError = 0;
};

/// The s_k = mean|x_k|^alpha / √(max · min over k of the same) of the smallest joint output error.
/// Layers of more than 1024 rows are judged by 1024 evenly spaced ones. `moments` are those of x,
/// finished; all layers have moments.cols() columns. Nothing, with the reason in `error`, where
/// sizes do not match or something is not finite.
std::optional<AWQScales> searchAWQScales(const std::vector<AWQLayer> &layers,
                                         const Moments &moments, const AWQOptions &options,
                                         std::string &error);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_AWQ_H
