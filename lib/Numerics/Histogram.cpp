//===- Histogram.cpp - how often each magnitude occurs ----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Histogram.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace lowbit {

static constexpr int keyShift = 23 - Histogram::mantissaBits;
static constexpr uint32_t magnitudeMask = 0x7fffffffu;

static uint32_t bitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

static double valueOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return std::isinf(value) ? double(std::numeric_limits<float>::max()) : double(value);
}

Histogram &Histogram::operator=(const Histogram &other) {
  if (this == &other)
    return *this;
  for (std::unique_ptr<Page> &page : pages)
    page.reset();
  merge(other);
  return *this;
}

int64_t *Histogram::page(uint32_t octave) {
  if (!pages[octave])
    pages[octave] = std::make_unique<Page>();
  return pages[octave]->data();
}

void Histogram::observe(const float *values, int64_t count) {
  // Half of all values behind a Relu are 0. Eight counters take them in turn, so that an increment
  // does not wait for the one before it.
  int64_t zeros[8] = {};
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits = bitsOf(values[i]), octave = bits >> 23;
    Page *page = pages[octave].get();
    if (__builtin_expect(!page, 0)) {
      this->page(octave);
      page = pages[octave].get();
    }
    bool isZero = (bits & magnitudeMask) >> keyShift == 0;
    int64_t *slot =
        isZero ? zeros + (i & 7) : page->data() + ((bits >> keyShift) & (bucketsPerOctave - 1));
    ++*slot;
  }
  for (int64_t zero : zeros)
    if (zero != 0)
      add(0, zero);
}

void Histogram::merge(const Histogram &other) {
  for (uint32_t octave = 0; octave < octaves; ++octave)
    if (other.pages[octave]) {
      int64_t *to = page(octave);
      for (int i = 0; i < bucketsPerOctave; ++i)
        to[i] += (*other.pages[octave])[i];
    }
}

void Histogram::add(uint32_t key, int64_t count) {
  page(key >> mantissaBits)[key & (bucketsPerOctave - 1)] += count;
}

uint32_t Histogram::keyOf(float value) {
  uint32_t bits = bitsOf(value);
  return (bits & magnitudeMask) >> keyShift == 0 ? 0 : bits >> keyShift;
}

HistogramBucket Histogram::bucketOf(uint32_t key) {
  uint32_t magnitude = key & (keys / 2 - 1);
  if (magnitude == 0)
    return {0, 0, 0};
  double near = valueOf(magnitude << keyShift), far = valueOf((magnitude + 1) << keyShift);
  if (key >= keys / 2)
    return {-far, -near, 0};
  return {near, far, 0};
}

int64_t Histogram::total() const {
  int64_t sum = 0;
  for (const std::unique_ptr<Page> &page : pages)
    if (page)
      for (int64_t count : *page)
        sum += count;
  return sum;
}

int64_t Histogram::countOf(uint32_t key) const {
  const std::unique_ptr<Page> &page = pages[key >> mantissaBits];
  return page ? (*page)[key & (bucketsPerOctave - 1)] : 0;
}

std::vector<std::pair<uint32_t, int64_t>> Histogram::entries() const {
  std::vector<std::pair<uint32_t, int64_t>> result;
  for (uint32_t octave = 0; octave < octaves; ++octave)
    if (pages[octave])
      for (uint32_t i = 0; i < bucketsPerOctave; ++i)
        if (int64_t count = (*pages[octave])[i])
          result.emplace_back(octave << mantissaBits | i, count);
  return result;
}

std::vector<HistogramBucket> Histogram::buckets(double resolution) const {
  std::vector<HistogramBucket> result;
  auto append = [&](uint32_t key, int64_t count) {
    HistogramBucket bucket = bucketOf(key);
    bucket.count = double(count);
    bool isZero = bucket.lo == 0 && bucket.hi == 0;
    if (!isZero && !result.empty()) {
      HistogramBucket &last = result.back();
      bool lastIsZero = last.lo == 0 && last.hi == 0;
      bool sameSign = (last.hi <= 0) == (bucket.hi <= 0);
      if (!lastIsZero && sameSign && bucket.hi - last.lo <= resolution) {
        last.hi = bucket.hi;
        last.count += bucket.count;
        return;
      }
    }
    result.push_back(bucket);
  };
  std::vector<std::pair<uint32_t, int64_t>> all = entries();
  // Keys ascend with the magnitude: negative values backwards first, then 0 and positive ones.
  for (auto entry = all.rbegin(); entry != all.rend() && entry->first >= keys / 2; ++entry)
    append(entry->first, entry->second);
  for (const auto &[key, count] : all)
    if (key < keys / 2)
      append(key, count);
  return result;
}

} // namespace lowbit
