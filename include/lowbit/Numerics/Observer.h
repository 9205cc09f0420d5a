//===- lowbit/Numerics/Observer.h - the range of the values of a tensor -----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_OBSERVER_H
#define LOWBIT_NUMERICS_OBSERVER_H

#include <cstdint>
#include <limits>

namespace lowbit {

/// Smallest and largest of all values seen. Observers of parts of the data merge to the observer
/// of all of it, in any order. NaN and infinities are counted and never enter the range; a
/// calibration in which valid() is false is an error of the data or the model.
class MinMaxObserver {
public:
  /// Adds `count` values.
  void observe(const float *values, int64_t count);
  void merge(const MinMaxObserver &other);
  /// Adds `count` finite values that lie in [min, max] and reach both.
  void add(float min, float max, int64_t count);

  /// All values seen, finite or not.
  int64_t count() const { return seen; }
  int64_t nanCount() const { return nans; }
  int64_t infCount() const { return infs; }
  /// At least one value was seen and all were finite.
  bool valid() const { return seen > 0 && nans == 0 && infs == 0; }
  /// The range of the finite values: +inf and -inf where there were none.
  float min() const { return smallest; }
  float max() const { return largest; }

private:
  int64_t seen = 0, nans = 0, infs = 0;
  float smallest = std::numeric_limits<float>::infinity();
  float largest = -std::numeric_limits<float>::infinity();
};

} // namespace lowbit

#endif // LOWBIT_NUMERICS_OBSERVER_H
