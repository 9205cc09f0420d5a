//===- RangeChoice.cpp - which range a scale covers -------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/RangeChoice.h"

#include "lowbit/Numerics/Quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lowbit {

static constexpr const char *methodNames[] = {"minmax", "average", "percentile", "entropy", "mse"};

const char *name(RangeMethod method) { return methodNames[size_t(method)]; }

std::optional<RangeMethod> parseRangeMethod(std::string_view name) {
  for (size_t i = 0; i < std::size(methodNames); ++i)
    if (name == methodNames[i])
      return RangeMethod(i);
  return std::nullopt;
}

bool needsHistogram(RangeMethod method) {
  return method != RangeMethod::MinMax && method != RangeMethod::Average;
}

namespace {
/// Values at one place, for sums over the histogram in loops without branches.
struct WeightedValues {
  std::vector<double> value, count;
};

/// Where quantized values lie.
struct Grid {
  double scale = 1, lowest = 0, highest = 0; ///< In units of scale, less the zero point.
};
} // namespace

static Grid makeGrid(Range range, IntType type, bool symmetric) {
  QuantParams params = *chooseParams(range.min, range.max, type, symmetric);
  return {double(params.scale), double(minValue(type) - params.zero),
          double(maxValue(type) - params.zero)};
}

/// To the nearest integer, ties to even, for |x| < 2^51; other than nearbyint a compiler can do it
/// for several values at once on every machine.
static double roundToEven(double x) {
  constexpr double shift = 6755399441055744.0; // 1.5 * 2^52
  return (x + shift) - shift;
}

static double squaredError(const WeightedValues &values, Grid grid) {
  constexpr size_t lanes = 4;
  double sums[lanes] = {};
  const double *value = values.value.data(), *count = values.count.data();
  auto add = [&](size_t lane, size_t i) {
    double level = roundToEven(value[i] / grid.scale);
    level = level < grid.lowest ? grid.lowest : level;
    level = level > grid.highest ? grid.highest : level;
    double error = value[i] - level * grid.scale;
    sums[lane] += count[i] * (error * error);
  };
  size_t size = values.value.size(), i = 0;
  for (; i + lanes <= size; i += lanes)
    for (size_t lane = 0; lane < lanes; ++lane)
      add(lane, i + lane);
  for (; i < size; ++i)
    add(0, i);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

//===----------------------------------------------------------------------===//
// The search that MSE and Entropy share
//===----------------------------------------------------------------------===//

/// The range with the least `cost(Range)` of those that factors 2^-k/16, and then 2^±j/64, of both
/// ends give.
template <typename Cost>
static Range search(Range whole, bool symmetric, int octaves, Cost cost) {
  Range best = whole;
  double least = cost(best);
  auto consider = [&](double min, double max) {
    Range range = {std::max(float(min), whole.min), std::min(float(max), whole.max)};
    if (range.min == best.min && range.max == best.max)
      return false;
    double value = cost(range);
    if (!(value < least))
      return false;
    least = value;
    best = range;
    return true;
  };
  auto factor = [](double exponent) { return std::exp2(exponent); };
  int coarse = 16 * octaves;
  for (int k = 1; k <= coarse; ++k)
    consider(whole.min * factor(-k / 16.0), whole.max * factor(-k / 16.0));
  // Symmetric parameters only see the larger side.
  bool both = !symmetric && whole.min < 0 && whole.max > 0;
  for (int round = 0; both && round < 4; ++round) {
    bool better = false;
    Range from = best;
    for (int k = 0; k <= coarse; ++k)
      better |= consider(from.min, whole.max * factor(-k / 16.0));
    from = best;
    for (int k = 0; k <= coarse; ++k)
      better |= consider(whole.min * factor(-k / 16.0), from.max);
    if (!better)
      break;
  }
  for (int round = 0; round < 4; ++round) {
    bool better = false;
    Range from = best;
    for (int j = -6; j <= 6; ++j)
      better |=
          consider(both ? from.min : from.min * factor(j / 64.0), from.max * factor(j / 64.0));
    from = best;
    for (int j = -6; both && j <= 6; ++j)
      better |= consider(from.min * factor(j / 64.0), from.max);
    if (!better)
      break;
  }
  return best;
}

//===----------------------------------------------------------------------===//
// Entropy
//===----------------------------------------------------------------------===//

namespace {
/// The values in bins of equal width: bin i is [(first + i) * width, (first + i + 1) * width).
struct LinearBins {
  double width = 0;
  int64_t first = 0;
  double total = 0;
  std::vector<double> count;
  /// Of count[0, i): the sum, the sum of plogp, and how many are not 0.
  std::vector<double> before, entropyBefore;
  std::vector<int64_t> occupied;

  double plogp(double count) const {
    return count > 0 ? count / total * std::log(count / total) : 0;
  }
};
} // namespace

static LinearBins makeBins(const std::vector<HistogramBucket> &histogram, Range whole,
                           int64_t perSide) {
  LinearBins bins;
  bins.width = std::max(-double(whole.min), double(whole.max)) / double(perSide);
  bins.first = whole.min < 0 ? -perSide : 0;
  bins.count.assign(size_t((whole.max > 0 ? perSide : 0) - bins.first), 0);
  auto binOf = [&](double value) {
    int64_t bin = int64_t(std::floor(value / bins.width)) - bins.first;
    return std::clamp<int64_t>(bin, 0, int64_t(bins.count.size()) - 1);
  };
  for (const HistogramBucket &bucket : histogram) {
    if (bucket.lo == 0 && bucket.hi == 0)
      continue;
    double lo = std::clamp(bucket.lo, double(whole.min), double(whole.max)),
           hi = std::clamp(bucket.hi, double(whole.min), double(whole.max));
    int64_t begin = binOf(lo), end = binOf(hi);
    // The upper end belongs to the next bin, and so does the lower one of negative values.
    if (end > begin && double(end + bins.first) * bins.width >= hi)
      --end;
    for (int64_t bin = begin; bin <= end; ++bin) {
      double from = std::max(lo, double(bin + bins.first) * bins.width),
             to = std::min(hi, double(bin + bins.first + 1) * bins.width);
      bins.count[size_t(bin)] +=
          begin == end ? bucket.count : bucket.count * std::max(to - from, 0.0) / (hi - lo);
    }
  }
  bins.total = 0;
  for (double count : bins.count)
    bins.total += count;
  bins.before.assign(1, 0);
  bins.entropyBefore.assign(1, 0);
  bins.occupied.assign(1, 0);
  for (double count : bins.count) {
    bins.before.push_back(bins.before.back() + count);
    bins.entropyBefore.push_back(bins.entropyBefore.back() + bins.plogp(count));
    bins.occupied.push_back(bins.occupied.back() + (count > 0));
  }
  return bins;
}

/// KL(P‖Q) of chooseRange; infinite where the range holds no value.
static double divergence(const LinearBins &bins, Range range, IntType type, bool symmetric) {
  Grid grid = makeGrid(range, type, symmetric);
  int64_t size = int64_t(bins.count.size());
  // The first bin whose middle is at or above x.
  auto binFrom = [&](double x) {
    double bin = std::ceil(x / bins.width - 0.5) - double(bins.first);
    return int64_t(std::clamp(bin, 0.0, double(size)));
  };
  int64_t begin = binFrom((grid.lowest - 0.5) * grid.scale),
          end = binFrom((grid.highest + 0.5) * grid.scale);
  while (begin < end && bins.count[size_t(begin)] <= 0)
    ++begin;
  while (begin < end && bins.count[size_t(end - 1)] <= 0)
    --end;
  if (begin == end)
    return std::numeric_limits<double>::infinity();
  double kept = bins.before[size_t(end)] - bins.before[size_t(begin)];
  // What is clipped adds to the outermost bins.
  double clippedLow = bins.before[size_t(begin)],
         clippedHigh = bins.before.back() - bins.before[size_t(end)];
  double sum = bins.entropyBefore[size_t(end)] - bins.entropyBefore[size_t(begin)];
  auto clip = [&](int64_t bin, double clipped) {
    double count = bins.count[size_t(bin)];
    sum += bins.plogp(count + clipped) - bins.plogp(count);
  };
  if (begin == end - 1) {
    clip(begin, clippedLow + clippedHigh);
  } else {
    clip(begin, clippedLow);
    clip(end - 1, clippedHigh);
  }
  int64_t levelBegin = begin;
  while (levelBegin < end) {
    // All bins of the level of this one.
    double middle = (double(levelBegin + bins.first) + 0.5) * bins.width;
    double level = std::clamp(roundToEven(middle / grid.scale), grid.lowest, grid.highest);
    int64_t levelEnd = std::max(levelBegin + 1, std::min(binFrom((level + 0.5) * grid.scale), end));
    double mass = bins.before[size_t(levelEnd)] - bins.before[size_t(levelBegin)];
    int64_t occupied = bins.occupied[size_t(levelEnd)] - bins.occupied[size_t(levelBegin)];
    if (occupied > 0) {
      double q = mass / double(occupied) / kept;
      mass += levelBegin == begin ? clippedLow : 0;
      mass += levelEnd == end ? clippedHigh : 0;
      sum -= mass / bins.total * std::log(q);
    }
    levelBegin = levelEnd;
  }
  return sum;
}

static Range entropyRange(const ObservedValues &seen, Range whole, IntType type, bool symmetric) {
  int64_t levels = maxValue(type) - minValue(type) + 1;
  double values = 0;
  for (const HistogramBucket &bucket : seen.histogram)
    values += bucket.lo == 0 && bucket.hi == 0 ? 0 : bucket.count;
  if (levels > 256 || values == 0)
    return whole;
  // Fewer bins where there are too few values to tell a distribution in 4096 from noise.
  int64_t perSide = 4096;
  while (perSide > 8 * levels && double(perSide) * 8 > values)
    perSide /= 2;
  LinearBins bins = makeBins(seen.histogram, whole, perSide);
  return search(whole, symmetric, /*octaves=*/4,
                [&](Range range) { return divergence(bins, range, type, symmetric); });
}

//===----------------------------------------------------------------------===//
// Percentile
//===----------------------------------------------------------------------===//

/// The least t such that at most `left` of the values of `buckets`, which come outermost first,
/// lie beyond it; `edge` gives the outer edge of a bucket.
template <typename Iterator, typename Edge>
static double cut(Iterator begin, Iterator end, double left, double otherwise, Edge edge) {
  double beyond = 0;
  for (Iterator bucket = begin; bucket != end; ++bucket) {
    beyond += bucket->count;
    if (beyond > left)
      return edge(*bucket);
  }
  return otherwise;
}

static Range percentileRange(const ObservedValues &seen, double percentile, bool symmetric) {
  double total = 0;
  for (const HistogramBucket &bucket : seen.histogram)
    total += bucket.count;
  double left = total * (100 - percentile) / 100;
  if (!symmetric) {
    left /= 2;
    return {float(cut(seen.histogram.begin(), seen.histogram.end(), left, 0,
                      [](const HistogramBucket &b) { return b.lo; })),
            float(cut(seen.histogram.rbegin(), seen.histogram.rend(), left, 0,
                      [](const HistogramBucket &b) { return b.hi; }))};
  }
  std::vector<HistogramBucket> magnitudes;
  for (HistogramBucket bucket : seen.histogram) {
    if (bucket.hi <= 0)
      bucket = {-bucket.hi, -bucket.lo, bucket.count};
    magnitudes.push_back(bucket);
  }
  std::sort(magnitudes.begin(), magnitudes.end(),
            [](const HistogramBucket &a, const HistogramBucket &b) { return a.hi > b.hi; });
  double t = cut(magnitudes.begin(), magnitudes.end(), left, 0,
                 [](const HistogramBucket &b) { return b.hi; });
  return {float(-t), float(t)};
}

//===----------------------------------------------------------------------===//
// Public
//===----------------------------------------------------------------------===//

static WeightedValues middles(const std::vector<HistogramBucket> &histogram, Range whole) {
  WeightedValues values;
  for (const HistogramBucket &bucket : histogram) {
    HistogramBucket inside = {std::max(bucket.lo, double(whole.min)),
                              std::min(bucket.hi, double(whole.max)), bucket.count};
    if (inside.lo > inside.hi)
      inside = bucket;
    values.value.push_back(inside.middle());
    values.count.push_back(inside.count);
  }
  return values;
}

double quantizationMSE(const std::vector<HistogramBucket> &histogram, float min, float max,
                       IntType type, bool symmetric) {
  constexpr float all = std::numeric_limits<float>::max();
  WeightedValues values = middles(histogram, {-all, all});
  double total = 0;
  for (double count : values.count)
    total += count;
  return total > 0 ? squaredError(values, makeGrid({min, max}, type, symmetric)) / total : 0;
}

std::optional<Range> chooseRange(const ObservedValues &seen, const RangeOptions &options,
                                 IntType type, bool symmetric, std::string &error) {
  Range whole = {seen.min, seen.max};
  if (!std::isfinite(whole.min) || !std::isfinite(whole.max) || whole.min > whole.max) {
    error = "the range of the values seen is not finite and ordered";
    return std::nullopt;
  }
  if (needsHistogram(options.method) && seen.histogram.empty()) {
    error = std::string(name(options.method)) + " needs a histogram of the values seen";
    return std::nullopt;
  }
  auto inside = [&](Range range) {
    return Range{std::clamp(range.min, whole.min, whole.max),
                 std::clamp(range.max, whole.min, whole.max)};
  };
  switch (options.method) {
  case RangeMethod::MinMax:
    return whole;
  case RangeMethod::Average:
    if (!seen.averageMin || !seen.averageMax) {
      error = "average needs the mean range of a sample";
      return std::nullopt;
    }
    return inside({*seen.averageMin, *seen.averageMax});
  case RangeMethod::Percentile:
    if (!(options.percentile > 0) || options.percentile > 100) {
      error = "the percentile is " + std::to_string(options.percentile) + ", expected (0, 100]";
      return std::nullopt;
    }
    return inside(percentileRange(seen, options.percentile, symmetric));
  case RangeMethod::Entropy:
    return entropyRange(seen, {std::min(whole.min, 0.0f), std::max(whole.max, 0.0f)}, type,
                        symmetric);
  case RangeMethod::MSE:
    break;
  }
  whole = {std::min(whole.min, 0.0f), std::max(whole.max, 0.0f)};
  WeightedValues values = middles(seen.histogram, whole);
  return search(whole, symmetric, /*octaves=*/5, [&](Range range) {
    return squaredError(values, makeGrid(range, type, symmetric));
  });
}

} // namespace lowbit
