//===- lowbit/Numerics/ChannelHistograms.h - where each channel's values lie -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A coarse histogram per channel: when a transform scales channels (SmoothQuant,
// equalization), the histogram of the scaled tensor follows from these, and the data need
// not run again. As in Histogram the buckets are fixed by the bits of the values, so that
// counts depend neither on batches nor on order.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_CHANNELHISTOGRAMS_H
#define LOWBIT_NUMERICS_CHANNELHISTOGRAMS_H

#include "lowbit/Numerics/Histogram.h"

#include <cstdint>
#include <vector>

namespace lowbit {

/// Eight buckets per octave and sign; about 1.5 KB per channel.
class ChannelHistograms {
public:
  static constexpr int mantissaBits = 3;
  /// [0, keys) are all buckets; key 0 holds zeros, and magnitudes below 2^-126.
  static constexpr uint32_t keys = 1u << (1 + 8 + mantissaBits);

  struct Entry {
    int32_t channel;
    uint32_t key;
    int64_t count;
  };

  void resize(size_t channels);
  size_t size() const { return pages.size(); }
  /// Adds finite values [outer, channels, inner], row-major; `channels` is size().
  void observe(const float *values, int64_t outer, size_t channels, int64_t inner);
  void add(size_t channel, uint32_t key, int64_t count);
  /// Both of the same size.
  void merge(const ChannelHistograms &other);

  /// What is not empty, by channel and then by key.
  std::vector<Entry> entries() const;
  /// The bucket without its count; {0, 0} for key 0.
  static HistogramBucket bucketOf(uint32_t key);

private:
  /// Two octaves.
  static constexpr int perPage = 2 << mantissaBits;
  static constexpr int pagesPerChannel = keys / perPage;
  int64_t *page(size_t channel, uint32_t index);
  void observeMany(size_t channel, const float *values, int64_t count);

  /// By channel and page: 1 + the page's place in `pages[channel]`; 0 for none.
  std::vector<uint16_t> table;
  std::vector<std::vector<int64_t>> pages;
};

} // namespace lowbit

#endif // LOWBIT_NUMERICS_CHANNELHISTOGRAMS_H
