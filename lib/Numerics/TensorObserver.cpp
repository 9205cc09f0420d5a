//===- TensorObserver.cpp - all that calibration measures -------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/TensorObserver.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace lowbit {

namespace {
/// One row [outer, channels, inner] of a tensor.
struct RowShape {
  int64_t outer = 1, channels = 1, inner = 1;
};

/// The channels of one row, kept from row to row for their memory. Sums of f32 values cannot
/// overflow a double, so `absolute` is finite exactly where all values are.
struct RowStatistics {
  std::vector<float> min, max;
  std::vector<double> sum, absolute;

  void reset(size_t channels) {
    min.assign(channels, std::numeric_limits<float>::infinity());
    max.assign(channels, -std::numeric_limits<float>::infinity());
    sum.assign(channels, 0);
    absolute.assign(channels, 0);
  }
};
} // namespace

/// Channels are the innermost axis: channel after channel, side by side.
static void addInterleaved(const float *data, RowShape shape, RowStatistics &row) {
  float *__restrict min = row.min.data(), *__restrict max = row.max.data();
  double *__restrict sum = row.sum.data(), *__restrict absolute = row.absolute.data();
  for (int64_t o = 0; o < shape.outer; ++o, data += shape.channels)
    for (int64_t c = 0; c < shape.channels; ++c) {
      float v = data[c];
      min[c] = v < min[c] ? v : min[c];
      max[c] = v > max[c] ? v : max[c];
      sum[c] += double(v);
      absolute[c] += double(std::fabs(v));
    }
}

namespace {
// Four values at a time, on every machine in the same way.
using Float4 = float __attribute__((vector_size(16)));
using Double4 = double __attribute__((vector_size(32)));

/// Smallest, largest and sums of every fourth value.
struct Lanes {
  Float4 min, max;
  Double4 sum = {}, absolute = {};

  Lanes(float smallest, float largest)
      : min{smallest, smallest, smallest, smallest}, max{largest, largest, largest, largest} {}
  void add(const float *values) {
    Float4 v;
    std::memcpy(&v, values, sizeof v);
    min = v < min ? v : min;
    max = v > max ? v : max;
    sum += __builtin_convertvector(v, Double4);
    absolute += __builtin_convertvector(v < 0 ? -v : v, Double4);
  }
  void addOne(int64_t lane, float v) {
    min[lane] = v < min[lane] ? v : min[lane];
    max[lane] = v > max[lane] ? v : max[lane];
    sum[lane] += double(v);
    absolute[lane] += double(std::fabs(v));
  }
};
} // namespace

/// The values of a channel are side by side.
static void addPlanes(const float *data, RowShape shape, RowStatistics &row) {
  for (int64_t o = 0; o < shape.outer; ++o)
    for (int64_t c = 0; c < shape.channels; ++c, data += shape.inner) {
      Lanes a(row.min[c], row.max[c]), b = a;
      int64_t i = 0;
      for (; i + 8 <= shape.inner; i += 8) {
        a.add(data + i);
        b.add(data + i + 4);
      }
      for (; i < shape.inner; ++i)
        a.addOne(i % 4, data[i]);
      for (const Lanes &lanes : {a, b})
        for (int lane = 0; lane < 4; ++lane) {
          row.min[c] = std::min(row.min[c], float(lanes.min[lane]));
          row.max[c] = std::max(row.max[c], float(lanes.max[lane]));
          row.sum[c] += lanes.sum[lane];
          row.absolute[c] += lanes.absolute[lane];
        }
    }
}

/// A row of one value per channel goes to the channels at once; what is returned is that of the
/// row as a whole.
static Lanes addSingles(const float *data, ChannelStatistics &channels) {
  Lanes row(std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity());
  int64_t size = int64_t(channels.size()), i = 0;
  for (; i + 4 <= size; i += 4)
    row.add(data + i);
  for (; i < size; ++i)
    row.addOne(i % 4, data[i]);
  float *__restrict min = channels.min.data(), *__restrict max = channels.max.data();
  double *__restrict sum = channels.sum.data(), *__restrict absolute = channels.absoluteSum.data();
  for (int64_t c = 0; c < size; ++c) {
    float v = data[c];
    min[c] = v < min[c] ? v : min[c];
    max[c] = v > max[c] ? v : max[c];
    sum[c] += double(v);
    absolute[c] += double(std::fabs(v));
  }
  return row;
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
  // Of a vector each value is a row and a channel: then each row is one channel.
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

  auto addRow = [&](const float *values, float min, float max, double magnitude) {
    if (!std::isfinite(magnitude)) {
      range.observe(values, rowSize); // Counts what is not finite.
      return false;
    }
    range.add(min, max, rowSize);
    ++rows;
    minSum.add(min);
    maxSum.add(max);
    return true;
  };
  RowStatistics seen;
  for (int64_t r = 0; r < rowsHere; ++r) {
    const float *values = data + r * rowSize;
    if (row.outer == 1 && row.inner == 1 && !channelsAreRows) {
      Lanes all = addSingles(values, channels);
      float min = all.min[0], max = all.max[0];
      double magnitude = 0;
      for (int lane = 0; lane < 4; ++lane) {
        min = std::min(min, float(all.min[lane]));
        max = std::max(max, float(all.max[lane]));
        magnitude += all.absolute[lane];
      }
      addRow(values, min, max, magnitude);
      continue;
    }
    seen.reset(size_t(row.channels));
    if (row.inner == 1)
      addInterleaved(values, row, seen);
    else
      addPlanes(values, row, seen);
    float min = *std::min_element(seen.min.begin(), seen.min.end()),
          max = *std::max_element(seen.max.begin(), seen.max.end());
    double magnitude = std::accumulate(seen.absolute.begin(), seen.absolute.end(), 0.0);
    if (!addRow(values, min, max, magnitude))
      continue;
    int64_t first = channelsAreRows ? r : 0;
    for (int64_t c = 0; c < row.channels; ++c) {
      channels.min[first + c] = std::min(channels.min[first + c], seen.min[c]);
      channels.max[first + c] = std::max(channels.max[first + c], seen.max[c]);
      channels.sum[first + c] += seen.sum[c];
      channels.absoluteSum[first + c] += seen.absolute[c];
    }
  }
  if (!range.valid())
    return true; // An error of the data or the model: nobody will use the rest.
  channels.count += count / numChannels;
  histogram.observe(data, count);
  if (channelsAreRows)
    channelHistograms.observe(data, 1, size_t(rowsHere), rowSize);
  else
    channelHistograms.observe(data, rowsHere * row.outer, size_t(row.channels), row.inner);
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

std::vector<HistogramBucket> TensorObserver::buckets() const {
  return histogram.buckets(std::max(-double(range.min()), double(range.max())) / 32768);
}

} // namespace lowbit
