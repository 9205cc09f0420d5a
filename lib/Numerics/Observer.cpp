//===- Observer.cpp - the range of the values of a tensor -------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Observer.h"

#include <algorithm>
#include <cmath>

namespace lowbit {

void MinMaxObserver::observe(const float *values, int64_t count) {
  float lo = smallest, hi = largest;
  int64_t odd = 0;
  for (int64_t i = 0; i < count; ++i) {
    float v = values[i];
    // False for NaN and infinities, without a branch that depends on the data.
    bool finite = std::fabs(v) <= std::numeric_limits<float>::max();
    odd += !finite;
    lo = finite && v < lo ? v : lo;
    hi = finite && v > hi ? v : hi;
  }
  if (odd != 0)
    for (int64_t i = 0; i < count; ++i) {
      nans += std::isnan(values[i]);
      infs += std::isinf(values[i]);
    }
  smallest = lo;
  largest = hi;
  seen += count;
}

void MinMaxObserver::merge(const MinMaxObserver &other) {
  seen += other.seen;
  nans += other.nans;
  infs += other.infs;
  smallest = std::min(smallest, other.smallest);
  largest = std::max(largest, other.largest);
}

void MinMaxObserver::add(float min, float max, int64_t count) {
  seen += count;
  smallest = std::min(smallest, min);
  largest = std::max(largest, max);
}

} // namespace lowbit
