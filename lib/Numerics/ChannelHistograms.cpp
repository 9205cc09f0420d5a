//===- ChannelHistograms.cpp - where each channel's values lie --------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/ChannelHistograms.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace lowbit {

static constexpr int keyShift = 23 - ChannelHistograms::mantissaBits;
static constexpr uint32_t signKey = ChannelHistograms::keys / 2;
/// Of the smallest normal number.
static constexpr uint32_t smallestKey = 1u << ChannelHistograms::mantissaBits;

static uint32_t keyOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  uint32_t key = bits >> keyShift;
  return (key & (signKey - 1)) < smallestKey ? 0 : key;
}

static double valueOf(uint32_t magnitude) {
  uint32_t bits = magnitude << keyShift;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return std::isinf(value) ? double(std::numeric_limits<float>::max()) : double(value);
}

void ChannelHistograms::resize(size_t channels) {
  table.assign(channels * pagesPerChannel, 0);
  pages.assign(channels, {});
}

int64_t *ChannelHistograms::page(size_t channel, uint32_t index) {
  uint16_t &place = table[channel * pagesPerChannel + index];
  std::vector<int64_t> &own = pages[channel];
  if (place == 0) {
    own.resize(own.size() + perPage);
    place = uint16_t(own.size() / perPage);
  }
  return own.data() + (place - 1) * perPage;
}

/// From so many values on, clearing and reading a table costs less than it saves.
static constexpr int64_t many = 1024;

void ChannelHistograms::observeMany(size_t channel, const float *values, int64_t count) {
  // One table in the first cache, and zeros, of which a Relu leaves many, in turn.
  uint32_t counts[keys] = {}, zeros[8] = {};
  for (int64_t i = 0; i < count; ++i) {
    uint32_t key = keyOf(values[i]);
    ++*(key == 0 ? zeros + (i & 7) : counts + key);
  }
  for (uint32_t zero : zeros)
    counts[0] += zero;
  for (uint32_t key = 0; key < keys; ++key)
    if (counts[key] != 0)
      add(channel, key, counts[key]);
}

void ChannelHistograms::observe(const float *values, int64_t outer, size_t channels,
                                int64_t inner) {
  for (int64_t o = 0; o < outer; ++o)
    for (size_t channel = 0; channel < channels; ++channel) {
      if (inner >= many && inner <= INT32_MAX) {
        observeMany(channel, values, inner);
        values += inner;
        continue;
      }
      for (int64_t i = 0; i < inner; ++i) {
        uint32_t key = keyOf(*values++), index = key / perPage;
        uint16_t place = table[channel * pagesPerChannel + index];
        int64_t *counts = place ? pages[channel].data() + (place - 1) * perPage
                                : page(channel, index);
        ++counts[key % perPage];
      }
    }
}

void ChannelHistograms::add(size_t channel, uint32_t key, int64_t count) {
  page(channel, key / perPage)[key % perPage] += count;
}

void ChannelHistograms::merge(const ChannelHistograms &other) {
  for (const Entry &entry : other.entries())
    add(size_t(entry.channel), entry.key, entry.count);
}

std::vector<ChannelHistograms::Entry> ChannelHistograms::entries() const {
  std::vector<Entry> result;
  for (size_t channel = 0; channel < pages.size(); ++channel)
    for (uint32_t index = 0; index < uint32_t(pagesPerChannel); ++index)
      if (uint16_t place = table[channel * pagesPerChannel + index])
        for (uint32_t slot = 0; slot < uint32_t(perPage); ++slot)
          if (int64_t count = pages[channel][(place - 1) * perPage + slot])
            result.push_back({int32_t(channel), index * perPage + slot, count});
  return result;
}

HistogramBucket ChannelHistograms::bucketOf(uint32_t key) {
  if (key == 0)
    return {0, 0, 0};
  uint32_t magnitude = key & (signKey - 1);
  double near = valueOf(magnitude), far = valueOf(magnitude + 1);
  if (key >= signKey)
    return {-far, -near, 0};
  return {near, far, 0};
}

} // namespace lowbit
