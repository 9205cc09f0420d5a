//===- Coverage.cpp - how much calibration saw of a range ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Coverage.h"

using namespace lowbit;
namespace json = llvm::json;

/// Of all values, the share that lies below `min` or above `max`. A bucket counts where it lies
/// outside as a whole, so values within 1/512 beyond an end count as inside.
static double shareOutside(const Histogram &histogram, float min, float max) {
  int64_t outside = 0, total = 0;
  for (auto [key, count] : histogram.entries()) {
    HistogramBucket bucket = Histogram::bucketOf(key);
    total += count;
    if (bucket.hi < double(min) || bucket.lo > double(max))
      outside += count;
  }
  return total ? double(outside) / double(total) : 0;
}

/// The range that the rule's scale covers; nothing where there is no such scale.
static std::optional<Range> chosenRange(const ObserverInfo &info, const TensorObserver &seen,
                                        const RangeOptions &options) {
  if (!info.activations || !info.activations->dynamic.empty() || !seen.range.valid())
    return std::nullopt;
  float min = seen.range.min(), max = seen.range.max();
  ObservedValues values = {min, max, float(seen.averageMin()), float(seen.averageMax()),
                           seen.buckets()};
  std::string error;
  return chooseRange(values, options, info.activations->type, info.activations->symmetric, error);
}

/// What a symmetric scale covers of both sides.
static Range covered(const ObserverInfo &info, Range range) {
  if (info.activations && info.activations->symmetric) {
    float larger = std::max(-range.min, range.max);
    return {-larger, larger};
  }
  return {std::min(range.min, 0.0f), std::max(range.max, 0.0f)};
}

/// What of `seen` lies outside of the range that is chosen from `calibrated`.
static void describeChosen(json::Object &report, const ObserverInfo &info,
                           const TensorObserver &calibrated, const TensorObserver &seen,
                           const RangeOptions &options) {
  std::optional<Range> chosen = chosenRange(info, calibrated, options);
  if (!chosen)
    return;
  Range range = covered(info, *chosen);
  report["type"] = lowbit::name(info.activations->type);
  report["chosen_min"] = double(range.min);
  report["chosen_max"] = double(range.max);
  report["saturated"] = shareOutside(seen.histogram, range.min, range.max);
}

static std::vector<bool> deadChannels(const TensorObserver &seen) {
  std::vector<bool> dead;
  for (size_t c = 0; c < seen.channels.size(); ++c)
    dead.push_back(seen.channels.min[c] == 0 && seen.channels.max[c] == 0);
  return dead;
}

static double widening(float fromMin, float fromMax, float toMin, float toMax) {
  double from = double(fromMax) - double(fromMin), to = double(toMax) - double(toMin);
  return to > 0 ? 1 - from / to : 0;
}

json::Object lowbit::describeCoverage(const ObserverInfo &info, const TensorObserver &seen,
                                      const RangeOptions &options, const HalfRange *half) {
  float min = seen.range.min(), max = seen.range.max();
  json::Object report{{"name", info.name}, {"values", seen.range.count()}};
  if (!seen.range.valid())
    return report;
  report["min"] = double(min);
  report["max"] = double(max);
  report["average_min"] = seen.averageMin();
  report["average_max"] = seen.averageMax();
  report["zeros"] = double(seen.histogram.countOf(0)) / double(seen.range.count());
  // Few values near the ends: the range hangs on them.
  report["outermost_tenth"] = shareOutside(seen.histogram, min * 0.9f, max * 0.9f);
  std::vector<bool> dead = deadChannels(seen);
  report["channels"] = int64_t(dead.size());
  report["dead_channels"] = int64_t(llvm::count(dead, true));
  describeChosen(report, info, seen, seen, options);
  if (half) {
    report["half_samples"] = half->samples;
    report["widened_since_half"] = widening(half->min, half->max, min, max);
  }
  return report;
}

json::Object lowbit::compareCoverage(const ObserverInfo &info, const TensorObserver &calibrated,
                                     const TensorObserver &seen, const RangeOptions &options) {
  json::Object report{{"name", info.name}, {"values", seen.range.count()}};
  if (!seen.range.valid() || !calibrated.range.valid())
    return report;
  float min = calibrated.range.min(), max = calibrated.range.max();
  report["min"] = double(min);
  report["max"] = double(max);
  report["seen_min"] = double(seen.range.min());
  report["seen_max"] = double(seen.range.max());
  report["outside"] = shareOutside(seen.histogram, min, max);
  report["wider_by"] =
      widening(min, max, std::min(min, seen.range.min()), std::max(max, seen.range.max()));
  describeChosen(report, info, calibrated, seen, options);
  std::vector<bool> deadBefore = deadChannels(calibrated), deadNow = deadChannels(seen);
  int64_t woken = 0;
  for (size_t c = 0; c < std::min(deadBefore.size(), deadNow.size()); ++c)
    woken += deadBefore[c] && !deadNow[c];
  report["channels"] = int64_t(deadNow.size());
  report["woken_channels"] = woken;
  return report;
}
