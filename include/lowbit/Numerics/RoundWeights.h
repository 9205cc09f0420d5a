//===- lowbit/Numerics/RoundWeights.h - algorithms that round weights -------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The mathematics, with its sources, is in docs/quantization.md. All results are
// the same bits for any number of threads.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_ROUNDWEIGHTS_H
#define LOWBIT_NUMERICS_ROUNDWEIGHTS_H

#include "lowbit/Numerics/FloatTargets.h"
#include "lowbit/Numerics/Moments.h"
#include "lowbit/Numerics/RTN.h"

#include <optional>
#include <string>
#include <vector>

namespace lowbit {

enum class RoundingAlgorithm : uint8_t {
  /// To the nearest value, parameters from the range of the weights.
  RTN,
  /// To the nearest value, parameters of the smallest Σ h_k |w_k - ŵ_k|^norm per range; h is the
  /// diagonal of H where moments are given, else 1.
  MSE,
  /// Frantar et al., arXiv:2210.17323: column by column, each rounding error made up for by the
  /// columns that follow. Needs moments.
  GPTQ,
  /// Lin et al., arXiv:2306.00978, its second part: to the nearest value, each range clipped where
  /// its output error is smallest. The first part, scales of the inputs, is AWQ.h's. Needs moments.
  AWQ,
  /// After Badri & Shaji, "Half-Quadratic Quantization of Large Machine Learning Models": to the
  /// nearest value, zero points and scales fitted to the |w - ŵ|^0.7 error by half-quadratic
  /// splitting, then rounded. Needs no data.
  HQQ,
};

/// How the parameters of a range are found: from its smallest and largest weight, or as those of
/// the smallest error over a grid of clipped ranges.
enum class WeightRange : uint8_t {
  MinMax,
  /// Σ |w - ŵ|^norm.
  MSE,
  /// Σ H_kk |w_k - ŵ_k|^norm.
  WeightedMSE,
  /// e H_gg eᵀ with e = w - ŵ, H_gg the block of H of the range's columns: the output error of the
  /// range alone. Ranges of more than 256 columns take WeightedMSE.
  OutputMSE,
  /// Σ |w_k - ŵ_k|^norm / P_kk, P the inverse of the damped H: what an error of w_k alone costs
  /// after all other columns have made up for it. GPTQ only, and not for a scale of a whole tensor;
  /// elsewhere it is WeightedMSE.
  InverseMSE,
};

struct RoundingOptions {
  RoundingAlgorithm algorithm = RoundingAlgorithm::RTN;
  /// GPTQ's parameters. The others have their own.
  WeightRange range = WeightRange::InverseMSE;
  /// Of the methods that sum |w - ŵ|^norm. 2 is fast; others, as the 2.4 of the GPTQ authors' code,
  /// are not.
  double norm = 2.0;
  /// GPTQ: added to H's diagonal, as a fraction of its mean; raised tenfold, with a note, until H
  /// is positive definite.
  double damping = 0.01;
  /// GPTQ: columns by falling H_kk instead of from the first to the last. Groups stay those of
  /// consecutive columns, with parameters from the weights as they came (static groups). Without
  /// it a group's parameters come from its weights as updated when its turn comes.
  bool actOrder = true;
  /// GPTQ and AWQ: afterwards, how often at most to go over all weights, setting each to the value
  /// of the smallest output error with all others as they are (coordinate descent on the same
  /// damped H); ends early when less than a thousandth of them changes. 0: as in the papers.
  /// `refit`: three rounds of this, each after the scale (by least squares) and the zero point of
  /// every range, integers as they are, where that lowers the error; not for a whole tensor's.
  int sweeps = 8;
  bool refit = true;
  /// Where given, as many as `moments`, weights follow floatTargets instead of `w`; errors are then
  /// of outputs against the targets' outputs. Not owned.
  const std::vector<CrossMoments> *cross = nullptr;
  double targetStrength = 0.5, targetRidge = 0.1;
  /// Take RTN's result, and say so, where its output error (on `heldOut` where given) is smaller.
  bool fallBack = true;
  /// Second moments of rows that the algorithm does not see; as many as `moments`. Not owned.
  const std::vector<Moments> *heldOut = nullptr;
  /// 0: one per core.
  unsigned threads = 0;
};

/// Rounds `w` [rows, cols], row-major, cols = the reduction axis K.
///
/// `moments`: empty, or one of the layer's input, or one per group of a grouped convolution (rows
/// then are cut evenly, group after group), each finished and of `cols` columns.
///
/// Nothing, with the reason in `error`, where a weight or moment is not finite, the sizes do not
/// match, the scheme cannot apply, or the algorithm needs moments and there are none.
/// Memory beside the arguments, of GPTQ: 4 K² bytes (H's factor, then A of the descent) and per
/// thread up to 4 KiB per column, and 13 bytes per weight. Time: docs/quantization.md.
std::optional<QuantizedWeights> roundWeights(const float *w, int64_t rows, int64_t cols,
                                             const Scheme &scheme, const RoundingOptions &options,
                                             const std::vector<Moments> &moments,
                                             std::string &error);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_ROUNDWEIGHTS_H
