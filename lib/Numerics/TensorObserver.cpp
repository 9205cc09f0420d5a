//===- TensorObserver.cpp - all that calibration measures -------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/TensorObserver.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lowbit {

namespace {
/// One row [outer, channels, inner] of a tensor.
struct RowShape {
  int64_t outer = 1, channels = 1, inner = 1;
};

/// Sums of one row, kept from row to row for their memory.
struct RowSums {
  std::vector<double> sum, absolute;
};
} // namespace

/// Channels are the innermost axis: channel after channel, side by side.
static void addInterleaved(const float *data, RowShape row, ChannelStatistics &channels,
                           RowSums &sums) {
  float *min = channels.min.data(), *max = channels.max.data();
  double *sum = sums.sum.data(), *absolute = sums.absolute.data();
  for (int64_t o = 0; o < row.outer; ++o, data += row.channels)
    for (int64_t c = 0; c < row.channels; ++c) {
      float v = data[c];
      min[c] = v < min[c] ? v : min[c];
      max[c] = v > max[c] ? v : max[c];
      sum[c] += double(v);
      absolute[c] += double(std::fabs(v));
    }
}

/// The values of a channel are side by side.
static void addPlanes(const float *data, RowShape row, ChannelStatistics &channels, RowSums &sums) {
  constexpr int64_t lanes = 8;
  for (int64_t o = 0; o < row.outer; ++o)
    for (int64_t c = 0; c < row.channels; ++c, data += row.inner) {
      float min[lanes], max[lanes];
      double sum[lanes] = {}, absolute[lanes] = {};
      std::fill_n(min, lanes, channels.min[c]);
      std::fill_n(max, lanes, channels.max[c]);
      auto add = [&](int64_t lane, float v) {
        min[lane] = v < min[lane] ? v : min[lane];
        max[lane] = v > max[lane] ? v : max[lane];
        sum[lane] += double(v);
        absolute[lane] += double(std::fabs(v));
      };
      int64_t i = 0;
      for (; i + lanes <= row.inner; i += lanes)
        for (int64_t lane = 0; lane < lanes; ++lane)
          add(lane, data[i + lane]);
      for (; i < row.inner; ++i)
        add(i % lanes, data[i]);
      for (int64_t lane = 0; lane < lanes; ++lane) {
        channels.min[c] = std::min(channels.min[c], min[lane]);
        channels.max[c] = std::max(channels.max[c], max[lane]);
        sums.sum[c] += sum[lane];
        sums.absolute[c] += absolute[lane];
      }
    }
}

static void resize(ChannelStatistics &channels, size_t size) {
  channels.min.assign(size, std::numeric_limits<float>::infinity());
  channels.max.assign(size, -std::numeric_limits<float>::infinity());
  channels.sum.assign(size, 0);
  channels.absoluteSum.assign(size, 0);
}

bool TensorObserver::observe(const float *data, int64_t rank, const int64_t *shape) {
  int64_t rowsHere = rank > 0 ? shape[0] : 1;
  int64_t axis = channelAxis < 0 ? rank - 1 : channelAxis;
  RowShape row;
  for (int64_t d = 1; d < rank; ++d)
    (d < axis ? row.outer : d == axis ? row.channels : row.inner) *= shape[d];
  // Of a vector each value is a row and a channel; then the channels are what axis 0 counts.
  bool channelsAreRows = rank > 0 && axis == 0;
  int64_t numChannels = channelsAreRows ? rowsHere : row.channels;
  int64_t rowSize = row.outer * row.channels * row.inner, count = rowsHere * rowSize;
  if (count == 0)
    return true;
  if (channels.size() == 0) {
    resize(channels, size_t(numChannels));
    channelHistograms.resize(size_t(numChannels));
  }
  if (channels.size() != size_t(numChannels))
    return false;

  for (int64_t r = 0; r < rowsHere; ++r) {
    MinMaxObserver seen;
    seen.observe(data + r * rowSize, rowSize);
    range.merge(seen);
    if (!seen.valid())
      continue;
    ++rows;
    minSum.add(seen.min());
    maxSum.add(seen.max());
  }
  if (!range.valid())
    return true; // An error of the data or the model: nobody will use the rest.
  histogram.observe(data, count);

  RowSums sums;
  if (channelsAreRows) {
    for (int64_t c = 0; c < rowsHere; ++c) {
      ChannelStatistics one;
      resize(one, 1);
      sums.sum.assign(1, 0);
      sums.absolute.assign(1, 0);
      addPlanes(data + c * rowSize, {1, 1, rowSize}, one, sums);
      channelHistograms.observe(size_t(c), data + c * rowSize, rowSize, 1);
      channels.min[c] = std::min(channels.min[c], one.min[0]);
      channels.max[c] = std::max(channels.max[c], one.max[0]);
      channels.sum[c] += sums.sum[0];
      channels.absoluteSum[c] += sums.absolute[0];
    }
    channels.count += rowSize;
    return true;
  }
  for (int64_t r = 0; r < rowsHere; ++r) {
    sums.sum.assign(size_t(numChannels), 0);
    sums.absolute.assign(size_t(numChannels), 0);
    if (row.inner == 1)
      addInterleaved(data + r * rowSize, row, channels, sums);
    else
      addPlanes(data + r * rowSize, row, channels, sums);
    for (int64_t o = 0; o < row.outer; ++o)
      for (int64_t c = 0; c < row.channels; ++c)
        channelHistograms.observe(size_t(c),
                                  data + r * rowSize + (o * row.channels + c) * row.inner,
                                  row.inner, 1);
    for (int64_t c = 0; c < numChannels; ++c) {
      channels.sum[c] += sums.sum[c];
      channels.absoluteSum[c] += sums.absolute[c];
    }
  }
  channels.count += rowsHere * row.outer * row.inner;
  return true;
}

bool TensorObserver::merge(const TensorObserver &other) {
  if (channels.size() != 0 && other.channels.size() != 0 &&
      channels.size() != other.channels.size())
    return false;
  range.merge(other.range);
  histogram.merge(other.histogram);
  rows += other.rows;
  minSum.merge(other.minSum);
  maxSum.merge(other.maxSum);
  if (other.channels.size() == 0)
    return true;
  if (channels.size() == 0) {
    resize(channels, other.channels.size());
    channelHistograms.resize(other.channels.size());
  }
  channelHistograms.merge(other.channelHistograms);
  channels.count += other.channels.count;
  for (size_t c = 0; c < channels.size(); ++c) {
    channels.min[c] = std::min(channels.min[c], other.channels.min[c]);
    channels.max[c] = std::max(channels.max[c], other.channels.max[c]);
    channels.sum[c] += other.channels.sum[c];
    channels.absoluteSum[c] += other.channels.absoluteSum[c];
  }
  return true;
}

} // namespace lowbit
