//===- lowbit/Numerics/Histogram.h - how often each magnitude occurs --------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_HISTOGRAM_H
#define LOWBIT_NUMERICS_HISTOGRAM_H

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace lowbit {

/// `count` values lie in [lo, hi].
struct HistogramBucket {
  double lo = 0, hi = 0;
  double count = 0;
  double width() const { return hi - lo; }
  double middle() const { return lo + (hi - lo) / 2; }
};

/// Counts of f32 values in buckets that the values' own bits fix: sign, exponent and the first
/// nine bits of the mantissa, 512 buckets per octave, each at most 1/512 of its values wide. So
/// the counts do not depend on how the data was cut into parts or in which order it came, nothing
/// is ever rebinned, and merging is adding. Memory: 4 KiB per octave and sign that occurs, however
/// many values there are.
class Histogram {
public:
  static constexpr int mantissaBits = 9;
  static constexpr int bucketsPerOctave = 1 << mantissaBits;
  /// Sign, 8 bits of exponent, mantissaBits; [0, keys) are all buckets.
  static constexpr uint32_t keys = 1u << (1 + 8 + mantissaBits);

  Histogram() = default;
  Histogram(const Histogram &other) { merge(other); }
  Histogram &operator=(const Histogram &other);
  Histogram(Histogram &&) = default;
  Histogram &operator=(Histogram &&) = default;

  /// Adds `count` values, all finite. Both zeros, and magnitudes below 2^-135, are the bucket 0.
  void observe(const float *values, int64_t count);
  void merge(const Histogram &other);
  /// Adds `count` values to a bucket; `key` of a finite value.
  void add(uint32_t key, int64_t count);

  static uint32_t keyOf(float value);
  /// The bucket without its count; {0, 0} for key 0.
  static HistogramBucket bucketOf(uint32_t key);

  int64_t total() const;
  int64_t countOf(uint32_t key) const;
  /// The keys with counts, ascending.
  std::vector<std::pair<uint32_t, int64_t>> entries() const;
  /// What is not empty, in ascending order of value. Neighbours of one sign are joined where the
  /// result is at most `resolution` wide; exact zeros stay a bucket [0, 0].
  std::vector<HistogramBucket> buckets(double resolution = 0) const;

private:
  static constexpr int octaves = 512; // Sign and exponent.
  using Page = std::array<int64_t, bucketsPerOctave>;
  int64_t *page(uint32_t octave);

  std::array<std::unique_ptr<Page>, octaves> pages;
};

} // namespace lowbit

#endif // LOWBIT_NUMERICS_HISTOGRAM_H
