//===- lowbit/Numerics/RangeChoice.h - which range a scale covers -----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_RANGECHOICE_H
#define LOWBIT_NUMERICS_RANGECHOICE_H

#include "lowbit/Numerics/Histogram.h"
#include "lowbit/Numerics/Scheme.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lowbit {

enum class RangeMethod { MinMax, Average, Percentile, Entropy, MSE };

/// "minmax", "average", …
const char *name(RangeMethod method);
std::optional<RangeMethod> parseRangeMethod(std::string_view name);
/// Whether the method looks at the histogram.
bool needsHistogram(RangeMethod method);

struct RangeOptions {
  RangeMethod method = RangeMethod::MinMax;
  /// Of Percentile: how many of a hundred values lie in the range.
  double percentile = 99.99;
};

/// What calibration saw of one value.
struct ObservedValues {
  float min = 0, max = 0;
  /// The means of the samples' smallest and largest values, for Average.
  std::optional<float> averageMin, averageMax;
  /// In ascending order, without overlap, as from Histogram::buckets; a bucket [0, 0] holds exact
  /// zeros.
  std::vector<HistogramBucket> histogram;
};

struct Range {
  float min = 0, max = 0;
};

/// The range that quantization parameters of `type` should cover (chooseParams makes them of it):
/// within what was seen, widened to include 0; symmetric parameters cover the larger side of it on
/// both.
///
/// - MinMax: all values seen.
/// - Average: the mean range of a sample.
/// - Percentile: leaves out at most (100 - percentile) % of the values, for asymmetric parameters
///   half of them on either side.
/// - MSE: least mean squared difference of a value and its quantized one.
/// - Entropy: least Kullback-Leibler divergence KL(P‖Q) of the values' distribution P, in 4096
///   bins, with what is clipped added to the outermost bin that has values, and Q, the distribution
///   of the values that are not clipped, in which the values of one quantized level are spread
///   evenly over its bins that are not empty (Migacz, "8-bit inference with TensorRT", 2017). Exact
///   zeros are left out: every range represents them exactly. For types of more than 8 bits, whose
///   levels are finer than the bins: MinMax.
///
/// The last two try the smallest ranges that are 1/32 (MSE) or 1/16 (Entropy) of what was seen, and
/// everything above in steps of 2^(1/64) at the end; of equals the widest range is taken. The
/// result depends on the arguments only.
///
/// Nothing, with the reason in `error`, where the method's statistics are missing or not finite.
std::optional<Range> chooseRange(const ObservedValues &seen, const RangeOptions &options,
                                 IntType type, bool symmetric, std::string &error);

/// The mean squared difference of the histogram's values and their quantized ones, where
/// parameters of `type` cover [min, max]. Of a bucket its middle counts.
double quantizationMSE(const std::vector<HistogramBucket> &histogram, float min, float max,
                       IntType type, bool symmetric);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_RANGECHOICE_H
