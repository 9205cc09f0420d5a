//===- lowbit/Numerics/TensorObserver.h - all that calibration measures -----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_TENSOROBSERVER_H
#define LOWBIT_NUMERICS_TENSOROBSERVER_H

#include "lowbit/Numerics/ChannelHistograms.h"
#include "lowbit/Numerics/ExactSum.h"
#include "lowbit/Numerics/Histogram.h"
#include "lowbit/Numerics/Observer.h"

#include <cstdint>
#include <vector>

namespace lowbit {

/// Range and mean of each channel of a tensor. Sums are in double, those of one row of axis 0
/// first, so that other batches and orders differ by rounding of double only.
struct ChannelStatistics {
  /// Values per channel.
  int64_t count = 0;
  /// One entry per channel; empty before the first value.
  std::vector<float> min, max;
  std::vector<double> sum, absoluteSum;

  size_t size() const { return min.size(); }
  double mean(size_t channel) const { return sum[channel] / double(count); }
  double absoluteMean(size_t channel) const { return absoluteSum[channel] / double(count); }
};

/// What calibration measures of one activation. Counts, ranges and histograms are the same for
/// every way to cut the data into batches and for every order; see ChannelStatistics for means.
///
/// A *row* is one index of axis 0, which of activations counts the samples of a batch; a tensor of
/// rank 0 is one row. The averaged range is the mean of the rows' ranges. (Averages over whole
/// batches, as other tools take them, depend on the size of the batch.)
class TensorObserver {
public:
  /// `channelAxis` as in lowbit.observe: the axis that counts channels, or -1 for the last one.
  explicit TensorObserver(int channelAxis = -1) : channelAxis(channelAxis) {}

  /// Adds a row-major tensor. False, and nothing is added, where the number of channels is another
  /// than before.
  bool observe(const float *data, int64_t rank, const int64_t *shape);
  /// False, and nothing is changed, where both have channels and not the same number of them.
  bool merge(const TensorObserver &other);

  /// Where range.valid() is false, NaN or infinities were seen, and the rest is incomplete.
  MinMaxObserver range;
  Histogram histogram;
  /// The rows that held values, the sums of their smallest and of their largest values.
  int64_t rows = 0;
  ExactSum minSum, maxSum;
  ChannelStatistics channels;
  ChannelHistograms channelHistograms; ///< As many as channels.

  /// The averaged range; 0 where there were no rows.
  double averageMin() const { return rows ? minSum.value() / double(rows) : 0; }
  double averageMax() const { return rows ? maxSum.value() / double(rows) : 0; }

  /// The histogram as ranges are chosen from it: buckets narrower than 2^-15 of the largest
  /// magnitude are joined. The range is valid.
  std::vector<HistogramBucket> buckets() const;

private:
  int channelAxis;
};

} // namespace lowbit

#endif // LOWBIT_NUMERICS_TENSOROBSERVER_H
