//===- ObservedValues.cpp - statistics attributes as numbers ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/ObservedValues.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/IR/Builders.h"
#include <algorithm>
#include <cmath>
#include <limits>

using namespace lowbit;

ObservedValues lowbit::getObservedValues(StatsAttr stats) {
  ObservedValues seen;
  seen.min = float(stats.getMin().getValueAsDouble());
  seen.max = float(stats.getMax().getValueAsDouble());
  if (stats.getAverageMin()) {
    seen.averageMin = float(stats.getAverageMin().getValueAsDouble());
    seen.averageMax = float(stats.getAverageMax().getValueAsDouble());
  }
  if (!stats.getHistogram())
    return seen;
  if (std::optional<ConstantData> rows = ConstantData::get(stats.getHistogram())) {
    ArrayRef<double> values = rows->as<double>();
    double last = -std::numeric_limits<double>::infinity();
    for (size_t i = 0; i + 3 <= values.size(); i += 3) {
      HistogramBucket bucket = {values[i], values[i + 1], values[i + 2]};
      // The attribute's verifier looks at dense constants only.
      bool valid = bucket.lo >= last && bucket.lo <= bucket.hi && std::isfinite(bucket.hi) &&
                   std::isfinite(bucket.lo) && bucket.count >= 0 && std::isfinite(bucket.count);
      if (!valid) {
        seen.histogram.clear();
        return seen;
      }
      last = bucket.hi;
      seen.histogram.push_back(bucket);
    }
  }
  return seen;
}

std::vector<Moments> lowbit::getMoments(StatsAttr stats, int64_t cols) {
  std::vector<Moments> result;
  std::optional<ConstantData> data =
      stats.getMoments() ? ConstantData::get(stats.getMoments()) : std::nullopt;
  if (!data || data->getType().getShape().back() != cols)
    return result;
  std::vector<float> values = data->toFloats();
  for (size_t begin = 0; begin < values.size(); begin += cols * cols)
    result.push_back(Moments::fromMatrix(values.data() + begin, cols));
  return result;
}

StatsAttr lowbit::getStatsAttr(MLIRContext *context, const TensorObserver &observer) {
  Builder builder(context);
  float min = observer.range.min(), max = observer.range.max();
  std::vector<double> rows;
  for (const HistogramBucket &bucket : observer.buckets())
    rows.insert(rows.end(), {bucket.lo, bucket.hi, bucket.count});
  const ChannelStatistics &channels = observer.channels;
  std::vector<float> mean, absolute;
  for (size_t c = 0; c < channels.size(); ++c) {
    mean.push_back(float(channels.mean(c)));
    absolute.push_back(float(channels.absoluteMean(c)));
  }
  // Buckets of the extremes reach beyond them.
  std::vector<double> channelRows;
  for (const ChannelHistograms::Entry &entry : observer.channelHistograms.entries()) {
    HistogramBucket bucket = ChannelHistograms::bucketOf(entry.key);
    double low = channels.min[entry.channel], high = channels.max[entry.channel];
    channelRows.insert(channelRows.end(),
                       {double(entry.channel), std::clamp(bucket.lo, low, high),
                        std::clamp(bucket.hi, low, high), double(entry.count)});
  }
  auto perChannel = [&](const std::vector<float> &values, StringRef name) {
    return makeConstant(RankedTensorType::get({int64_t(values.size())}, builder.getF32Type()),
                        values, name);
  };
  ElementsAttr histogram =
      makeConstant(RankedTensorType::get({int64_t(rows.size() / 3), 3}, builder.getF64Type()), rows,
                   "histogram");
  return StatsAttr::get(context, builder.getF32FloatAttr(min), builder.getF32FloatAttr(max),
                        builder.getF32FloatAttr(float(observer.averageMin())),
                        builder.getF32FloatAttr(float(observer.averageMax())), histogram,
                        perChannel(channels.min, "channel_min"),
                        perChannel(channels.max, "channel_max"), perChannel(mean, "channel_mean"),
                        perChannel(absolute, "channel_absmean"),
                        makeConstant(RankedTensorType::get({int64_t(channelRows.size() / 4), 4},
                                                           builder.getF64Type()),
                                     channelRows, "channel_histogram"),
                        ElementsAttr());
}
