//===- CalibrationTest.cpp - histograms, observers and range choice ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Quantize.h"
#include "lowbit/Numerics/RangeChoice.h"
#include "lowbit/Numerics/TensorObserver.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

using namespace lowbit;

static std::vector<float> normal(int64_t count, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value(0, scale);
  std::vector<float> x(count);
  for (float &v : x)
    v = value(random);
  return x;
}

static std::vector<float> relu(std::vector<float> x) {
  for (float &v : x)
    v = std::max(v, 0.0f);
  return x;
}

static ObservedValues observed(const std::vector<float> &x) {
  Histogram histogram;
  histogram.observe(x.data(), int64_t(x.size()));
  auto [min, max] = std::minmax_element(x.begin(), x.end());
  return {*min, *max, std::nullopt, std::nullopt, histogram.buckets()};
}

static Range choose(const ObservedValues &seen, RangeOptions options, IntType type,
                    bool symmetric) {
  std::string error;
  std::optional<Range> range = chooseRange(seen, options, type, symmetric, error);
  EXPECT_TRUE(range) << error;
  return range.value_or(Range());
}

//===----------------------------------------------------------------------===//
// Histogram and ExactSum
//===----------------------------------------------------------------------===//

TEST(Histogram, EveryValueIsInItsBucket) {
  std::mt19937 random(1);
  for (int i = 0; i < 100000; ++i) {
    uint32_t bits = random();
    float v;
    std::memcpy(&v, &bits, sizeof v);
    if (!std::isfinite(v))
      continue;
    HistogramBucket bucket = Histogram::bucketOf(Histogram::keyOf(v));
    if (std::fabs(v) < 2.3e-41f) {
      EXPECT_EQ(Histogram::keyOf(v), 0u);
      continue;
    }
    EXPECT_LE(bucket.lo, double(v));
    EXPECT_GE(bucket.hi, double(v));
    if (std::fabs(v) >= std::numeric_limits<float>::min())
      EXPECT_LE(bucket.width(), std::fabs(v) / Histogram::bucketsPerOctave * 1.0000001);
  }
  EXPECT_EQ(Histogram::keyOf(-0.0f), 0u);
}

TEST(Histogram, BucketsAscendAndCountAll) {
  std::vector<float> x = relu(normal(10000, 2, 3));
  std::vector<float> y = normal(10000, 3, 1e-3f);
  x.insert(x.end(), y.begin(), y.end());
  Histogram histogram;
  histogram.observe(x.data(), int64_t(x.size()));
  EXPECT_EQ(histogram.total(), 20000);
  EXPECT_EQ(histogram.countOf(0), std::count(x.begin(), x.end(), 0.0f));
  for (double resolution : {0.0, 1e-3, 0.5}) {
    std::vector<HistogramBucket> buckets = histogram.buckets(resolution);
    double total = 0, last = -1e30;
    bool hasZeros = false;
    for (const HistogramBucket &bucket : buckets) {
      EXPECT_LE(last, bucket.lo);
      EXPECT_TRUE(bucket.lo == bucket.hi ? bucket.lo == 0 : bucket.lo < bucket.hi);
      EXPECT_TRUE(bucket.lo >= 0 || bucket.hi <= 0);
      last = bucket.hi;
      total += bucket.count;
      hasZeros |= bucket.lo == bucket.hi;
      // By hand: what lies between its ends.
      if (resolution == 0.5)
        EXPECT_EQ(bucket.count, std::count_if(x.begin(), x.end(), [&](float v) {
                    return bucket.lo == bucket.hi
                               ? v == 0
                               : v != 0 && (v > 0 ? v >= bucket.lo && v < bucket.hi
                                                  : v > bucket.lo && v <= bucket.hi);
                  }));
    }
    EXPECT_EQ(total, 20000);
    EXPECT_TRUE(hasZeros);
  }
}

TEST(ExactSum, OrderDoesNotMatter) {
  std::mt19937 random(4);
  std::vector<float> x = normal(2000, 5, 1e10f);
  std::vector<float> tiny = normal(2000, 6, 1e-20f);
  x.insert(x.end(), tiny.begin(), tiny.end());
  x.push_back(std::numeric_limits<float>::max());
  x.push_back(-std::numeric_limits<float>::max());
  x.push_back(std::numeric_limits<float>::denorm_min());
  ExactSum forward;
  long double near = 0;
  for (float v : x) {
    forward.add(v);
    if (std::fabs(v) < 1e30f)
      near += v;
  }
  std::shuffle(x.begin(), x.end(), random);
  ExactSum a, b;
  for (size_t i = 0; i < x.size(); ++i)
    (i < 700 ? a : b).add(x[i]);
  b.merge(a);
  EXPECT_EQ(forward.digits(), b.digits());
  EXPECT_EQ(forward.value(), b.value());
  EXPECT_NEAR(forward.value(), double(near), std::fabs(double(near)) * 1e-12);
  ExactSum loaded;
  loaded.setDigits(b.digits());
  EXPECT_EQ(loaded.value(), b.value());
  ExactSum small;
  for (float v : {0.5f, 0.25f, -1.0f})
    small.add(v);
  EXPECT_EQ(small.value(), -0.25);
}

//===----------------------------------------------------------------------===//
// TensorObserver
//===----------------------------------------------------------------------===//

static void expectSame(const TensorObserver &a, const TensorObserver &b) {
  EXPECT_EQ(a.range.min(), b.range.min());
  EXPECT_EQ(a.range.max(), b.range.max());
  EXPECT_EQ(a.range.count(), b.range.count());
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.averageMin(), b.averageMin());
  EXPECT_EQ(a.averageMax(), b.averageMax());
  EXPECT_EQ(a.histogram.entries(), b.histogram.entries());
  EXPECT_EQ(a.channels.count, b.channels.count);
  EXPECT_EQ(a.channels.min, b.channels.min);
  EXPECT_EQ(a.channels.max, b.channels.max);
  for (size_t c = 0; c < a.channels.size(); ++c) {
    EXPECT_NEAR(a.channels.sum[c], b.channels.sum[c], 1e-12 * a.channels.absoluteSum[c]);
    EXPECT_NEAR(a.channels.absoluteSum[c], b.channels.absoluteSum[c],
                1e-12 * a.channels.absoluteSum[c]);
  }
}

TEST(TensorObserver, BatchesOrderAndMergeDoNotMatter) {
  std::mt19937 random(7);
  struct Case {
    std::vector<int64_t> shape; ///< Without the samples.
    int axis;
  };
  for (const Case &test :
       {Case{{3, 5, 7}, 1}, Case{{6, 11}, -1}, Case{{9}, -1}, Case{{4, 1, 1}, 1}}) {
    int64_t samples = 45, size = 1;
    for (int64_t extent : test.shape)
      size *= extent;
    std::vector<float> x = normal(samples * size, 8, 4);
    for (size_t i = 0; i < x.size(); i += 3)
      x[i] = 0;
    auto feed = [&](TensorObserver &observer, std::vector<int64_t> order, int64_t batch) {
      for (int64_t begin = 0; begin < samples; begin += batch) {
        int64_t end = std::min(samples, begin + batch);
        std::vector<float> data;
        for (int64_t i = begin; i < end; ++i)
          data.insert(data.end(), x.begin() + order[i] * size, x.begin() + (order[i] + 1) * size);
        std::vector<int64_t> shape = {end - begin};
        shape.insert(shape.end(), test.shape.begin(), test.shape.end());
        ASSERT_TRUE(observer.observe(data.data(), int64_t(shape.size()), shape.data()));
      }
    };
    std::vector<int64_t> order(samples);
    std::iota(order.begin(), order.end(), 0);
    TensorObserver one(test.axis), seven(test.axis), all(test.axis), permuted(test.axis);
    feed(one, order, 1);
    feed(seven, order, 7);
    feed(all, order, 32);
    std::shuffle(order.begin(), order.end(), random);
    feed(permuted, order, 7);
    expectSame(one, seven);
    expectSame(one, all);
    expectSame(one, permuted);
    EXPECT_EQ(one.rows, samples);
    EXPECT_EQ(one.channels.size(), size_t(test.shape[test.axis < 0 ? test.shape.size() - 1 : 0]));
    // Each part alone, merged.
    TensorObserver merged(test.axis);
    for (int64_t i = 0; i < samples; ++i) {
      TensorObserver part(test.axis);
      std::vector<int64_t> shape = {1};
      shape.insert(shape.end(), test.shape.begin(), test.shape.end());
      ASSERT_TRUE(part.observe(x.data() + i * size, int64_t(shape.size()), shape.data()));
      ASSERT_TRUE(merged.merge(part));
    }
    expectSame(one, merged);
  }
}

TEST(TensorObserver, ChannelsByHand) {
  // [2, 2, 3]: channels are axis 1.
  float x[] = {1, 2, 3, -1, -1, -4, 5, 0, 0, 2, 2, 2};
  int64_t shape[] = {2, 2, 3};
  TensorObserver observer(1);
  ASSERT_TRUE(observer.observe(x, 3, shape));
  EXPECT_EQ(observer.channels.count, 6);
  EXPECT_EQ(observer.channels.min, (std::vector<float>{0, -4}));
  EXPECT_EQ(observer.channels.max, (std::vector<float>{5, 2}));
  EXPECT_EQ(observer.channels.sum, (std::vector<double>{11, 0}));
  EXPECT_EQ(observer.channels.absoluteSum, (std::vector<double>{11, 12}));
  EXPECT_EQ(observer.averageMin(), (-4 + 0) / 2.0);
  EXPECT_EQ(observer.averageMax(), (3 + 5) / 2.0);
  // Another number of channels is refused.
  int64_t other[] = {1, 3, 3};
  EXPECT_FALSE(observer.observe(x, 3, other));
  EXPECT_EQ(observer.range.count(), 12);
  // Scalars and empty tensors.
  TensorObserver scalar;
  EXPECT_TRUE(scalar.observe(x, 0, nullptr));
  EXPECT_EQ(scalar.channels.size(), 1u);
  int64_t empty[] = {0, 4};
  EXPECT_TRUE(scalar.observe(x, 2, empty));
  EXPECT_EQ(scalar.range.count(), 1);
}

TEST(TensorObserver, NotFinite) {
  float x[] = {1, NAN, 2};
  int64_t shape[] = {1, 3};
  TensorObserver observer;
  EXPECT_TRUE(observer.observe(x, 2, shape));
  EXPECT_FALSE(observer.range.valid());
  EXPECT_EQ(observer.range.nanCount(), 1);
}

//===----------------------------------------------------------------------===//
// Range choice
//===----------------------------------------------------------------------===//

TEST(RangeChoice, MinMaxAndAverage) {
  ObservedValues seen;
  seen.min = -2;
  seen.max = 6;
  Range all = choose(seen, {}, IntType::U8, false);
  EXPECT_EQ(all.min, -2);
  EXPECT_EQ(all.max, 6);
  std::string error;
  EXPECT_FALSE(chooseRange(seen, {RangeMethod::Average}, IntType::U8, false, error));
  EXPECT_FALSE(chooseRange(seen, {RangeMethod::MSE}, IntType::U8, false, error));
  EXPECT_EQ(error, "mse needs a histogram of the values seen");
  seen.averageMin = -1;
  seen.averageMax = 4;
  EXPECT_EQ(choose(seen, {RangeMethod::Average}, IntType::U8, false).max, 4);
  seen.max = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(chooseRange(seen, {}, IntType::U8, false, error));
}

TEST(RangeChoice, PercentileIsTheQuantile) {
  std::vector<float> x = normal(200000, 9);
  ObservedValues seen = observed(x);
  std::sort(x.begin(), x.end());
  for (double p : {99.99, 99.9, 90.0, 50.0}) {
    Range range = choose(seen, {RangeMethod::Percentile, p}, IntType::I8, false);
    size_t left = size_t(double(x.size()) * (100 - p) / 200);
    EXPECT_NEAR(range.min, x[left], std::fabs(x[left]) / 500);
    EXPECT_NEAR(range.max, x[x.size() - 1 - left], std::fabs(x[left]) / 500);
    EXPECT_LE(range.min, x[left]);
    EXPECT_GE(range.max, x[x.size() - 1 - left]);
  }
  for (float &v : x)
    v = std::fabs(v);
  std::sort(x.begin(), x.end());
  Range range = choose(seen, {RangeMethod::Percentile, 99}, IntType::I8, true);
  EXPECT_NEAR(range.max, x[size_t(double(x.size()) * 0.99)], 0.01);
  EXPECT_EQ(range.min, -range.max);
  EXPECT_EQ(choose(seen, {RangeMethod::Percentile, 100}, IntType::I8, false).max, seen.max);
}

/// The mean squared error of the values themselves.
static double trueMSE(const std::vector<float> &x, Range range, IntType type, bool symmetric) {
  QuantParams params = *chooseParams(range.min, range.max, type, symmetric);
  double sum = 0;
  for (float v : x) {
    double error = double(v) - double(dequantize(quantize(v, params.scale, params.zero, type),
                                                 params.scale, params.zero));
    sum += error * error;
  }
  return sum / double(x.size());
}

TEST(RangeChoice, MSEIsNearBruteForce) {
  std::mt19937 random(10);
  std::vector<float> heavy(10000);
  std::student_t_distribution<float> student(3);
  for (float &v : heavy)
    v = student(random);
  struct Case {
    const char *name;
    std::vector<float> x;
  };
  std::vector<float> shifted = normal(10000, 11);
  for (float &v : shifted)
    v = std::fabs(v) * 4 - (v > 2.0f ? 9.0f : 0.5f);
  for (const Case &test : {Case{"normal", normal(10000, 12)}, Case{"heavy", heavy},
                           Case{"relu", relu(heavy)}, Case{"shifted", shifted}})
    for (IntType type : {IntType::U8, IntType::I8, IntType::I4})
      for (bool symmetric : {true, false}) {
        ObservedValues seen = observed(test.x);
        Range range = choose(seen, {RangeMethod::MSE}, type, symmetric);
        double found = trueMSE(test.x, range, type, symmetric);
        double best = trueMSE(test.x, {seen.min, seen.max}, type, symmetric);
        int steps = symmetric || seen.min >= 0 ? 1 : 25;
        for (int i = 1; i <= 25; ++i)
          for (int j = 1; j <= steps; ++j) {
            float high = seen.max * float(i) / 25, low = seen.min * float(steps == 1 ? i : j) / 25;
            best = std::min(best, trueMSE(test.x, {low, high}, type, symmetric));
          }
        EXPECT_LE(found, best * 1.01) << test.name << " " << name(type) << " " << symmetric;
        EXPECT_NEAR(quantizationMSE(seen.histogram, range.min, range.max, type, symmetric), found,
                    found * 0.05);
      }
}

TEST(RangeChoice, KnownOptimaOfTheNormalDistribution) {
  // Banner et al., "Post training 4-bit quantization of convolutional networks" (2019): for 16
  // levels the best threshold is 2.55 standard deviations; ours has 15.
  ObservedValues seen = observed(normal(1000000, 13));
  auto threshold = [&](IntType type) {
    Range range = choose(seen, {RangeMethod::MSE}, type, true);
    return std::max(-range.min, range.max);
  };
  EXPECT_NEAR(threshold(IntType::I4), 2.55 * 15 / 16, 0.08);
  // 8 bits: 3.92.
  EXPECT_NEAR(threshold(IntType::I8), 3.92, 0.08);
}

TEST(RangeChoice, ValuesOnTheGridKeepTheirRange) {
  // Pixels: 0 … 255 are exact with scale 1.
  std::vector<float> x(100000);
  std::mt19937 random(14);
  for (float &v : x)
    v = float(random() % 256);
  ObservedValues seen = observed(x);
  for (RangeMethod method : {RangeMethod::MSE, RangeMethod::Entropy}) {
    Range range = choose(seen, {method}, IntType::U8, false);
    EXPECT_EQ(range.min, 0);
    EXPECT_NEAR(range.max, 255, 0.5) << name(method);
  }
}

/// KL(P‖Q) as the header defines it, without prefix sums.
static double bruteDivergence(std::vector<double> p, float t, double width) {
  // One-sided u8.
  double scale = double(chooseParams(0, t, IntType::U8, false)->scale);
  std::vector<double> q(p.size());
  double total = std::accumulate(p.begin(), p.end(), 0.0), kept = 0;
  auto levelOf = [&](size_t bin) { return std::nearbyint((double(bin) + 0.5) * width / scale); };
  size_t end = 0;
  for (size_t i = 0; i < p.size(); ++i)
    if (levelOf(i) <= 255 && p[i] > 0)
      end = i + 1;
  for (size_t begin = 0; begin < end;) {
    size_t stop = begin;
    double mass = 0, occupied = 0;
    for (; stop < end && levelOf(stop) == levelOf(begin); ++stop)
      mass += p[stop], occupied += p[stop] > 0;
    for (size_t i = begin; i < stop; ++i)
      q[i] = p[i] > 0 ? mass / occupied : 0;
    kept += mass;
    begin = stop;
  }
  double clipped = total - kept, sum = 0;
  p[end - 1] += clipped;
  for (size_t i = 0; i < end; ++i)
    if (p[i] > 0)
      sum += p[i] / total * std::log(p[i] / total / (q[i] / kept));
  return sum;
}

TEST(RangeChoice, EntropyIsNearBruteForce) {
  std::mt19937 random(15);
  std::exponential_distribution<float> exponential(1);
  std::vector<float> x(300000);
  for (float &v : x)
    v = random() % 2 ? 0 : exponential(random);
  x[0] = 40; // One outlier.
  ObservedValues seen = observed(x);
  float t = choose(seen, {RangeMethod::Entropy}, IntType::U8, false).max;
  double width = double(seen.max) / 4096, best = 1e30;
  float bestT = 0;
  std::vector<double> bins(4096);
  for (float v : x)
    if (v > 0)
      bins[size_t(std::min(4095, int(double(v) / width)))] += 1;
  for (int i = 256; i <= 4096; i += 4) {
    double value = bruteDivergence(bins, float(i * width), width);
    if (value < best) {
      best = value;
      bestT = float(i * width);
    }
  }
  EXPECT_LT(t, 20) << "the outlier is clipped";
  EXPECT_GT(t, 5);
  // Buckets of the histogram straddle bins, so the two differ a little.
  EXPECT_LE(bruteDivergence(bins, t, width), best * 1.15 + 1e-6) << t << " against " << bestT;
}

TEST(RangeChoice, EntropyTriesMoreThanOneRange) {
  // Uniform values need their whole range, heavy tails do not.
  std::mt19937 random(16);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> flat(200000);
  for (float &v : flat)
    v = uniform(random);
  Range whole = choose(observed(flat), {RangeMethod::Entropy}, IntType::I8, true);
  EXPECT_GT(whole.max, 0.95f);
  std::vector<float> heavy(200000);
  std::student_t_distribution<float> student(3);
  for (float &v : heavy)
    v = student(random);
  ObservedValues seen = observed(heavy);
  for (bool symmetric : {true, false}) {
    Range clipped = choose(seen, {RangeMethod::Entropy}, IntType::I8, symmetric);
    EXPECT_LT(clipped.max, seen.max / 2);
    EXPECT_GT(clipped.max, 3);
  }
  // Types finer than the bins take everything.
  EXPECT_EQ(choose(seen, {RangeMethod::Entropy}, IntType::I16, true).max, seen.max);
}

TEST(RangeChoice, EdgeCases) {
  for (RangeMethod method : {RangeMethod::Percentile, RangeMethod::Entropy, RangeMethod::MSE})
    for (IntType type : {IntType::U8, IntType::I8, IntType::I4, IntType::I16})
      for (bool symmetric : {true, false})
        for (std::vector<float> x : {std::vector<float>{0, 0, 0},
                                     {5, 5.0001f},
                                     {-3},
                                     {1e-30f, -1e-38f},
                                     {3e38f, -3e38f},
                                     {0, 1, 0, 0},
                                     {1e-42f, 1e-41f}}) {
          Range range = choose(observed(x), {method}, type, symmetric);
          EXPECT_TRUE(std::isfinite(range.min) && std::isfinite(range.max));
          EXPECT_LE(range.min, range.max);
          EXPECT_TRUE(chooseParams(range.min, range.max, type, symmetric));
        }
}

TEST(RangeChoice, CoarserBucketsChooseTheSame) {
  // What lowbit-load-calibration writes: buckets joined up to 2^-15 of the largest magnitude.
  std::vector<float> x = relu(normal(500000, 17));
  ObservedValues fine = observed(x), coarse = fine;
  Histogram histogram;
  histogram.observe(x.data(), int64_t(x.size()));
  coarse.histogram = histogram.buckets(double(fine.max) / 32768);
  EXPECT_LT(coarse.histogram.size(), fine.histogram.size());
  for (RangeMethod method : {RangeMethod::Percentile, RangeMethod::Entropy, RangeMethod::MSE})
    EXPECT_NEAR(choose(fine, {method}, IntType::U8, false).max,
                choose(coarse, {method}, IntType::U8, false).max, 0.05);
}
