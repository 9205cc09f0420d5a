//===- RangeSearch.h - parameters of the smallest rounding error ------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_NUMERICS_RANGESEARCH_H
#define LOWBIT_LIB_NUMERICS_RANGESEARCH_H

#include "lowbit/Numerics/Quantize.h"
#include "lowbit/Numerics/RoundWeights.h"

#include <vector>

namespace lowbit {

/// chooseParams over the range of `w`, which is finite.
QuantParams minMaxParams(const float *w, int64_t count, IntType type, bool symmetric);

/// What errors of the weights of a range cost: Σ h |e|^norm, or e B eᵀ.
struct RangeCost {
  double norm = 2.0;
  /// h >= 0 [count]; empty: 1.
  std::vector<float> diagonal;
  /// B [count, count], symmetric, not negative; where not empty, it counts alone.
  std::vector<float> block;
};

/// The cost by `method` of columns [column, column + count) with these moments (null: none).
/// `inverse`: the diagonal of the inverse of the damped H, for WeightRange::InverseMSE; without it
/// that is WeightedMSE.
RangeCost rangeCost(WeightRange method, double norm, const Moments *moments,
                    const std::vector<double> *inverse, int64_t column, int64_t count);

/// The parameters of the smallest cost that the search finds: ranges shrunk from the full one to
/// 0.3 of it, then zero points beside the best, then the scale of least squares for the integers
/// so found. Never costs more than minMaxParams.
QuantParams searchParams(const float *w, int64_t count, IntType type, bool symmetric,
                         const RangeCost &cost);

/// Replaces the parameters of rows [begin, end) of `result` by searchParams (or minMaxParams) over
/// `w` [result.rows, result.cols]. Not for scales of a whole tensor.
void searchRows(const float *w, int64_t begin, int64_t end, WeightRange method, double norm,
                const Moments *moments, const std::vector<double> *inverse, unsigned threads,
                QuantizedWeights &result);

/// Replaces all parameters.
void searchRanges(const float *w, WeightRange method, double norm,
                  const std::vector<Moments> &moments, unsigned threads, QuantizedWeights &result);

} // namespace lowbit

#endif // LOWBIT_LIB_NUMERICS_RANGESEARCH_H
