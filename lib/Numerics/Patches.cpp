//===- Patches.cpp - the rows that a filter multiplies ----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Patches.h"

#include <algorithm>

namespace lowbit {

int64_t PatchGeometry::outputSize(size_t dim) const {
  size_t n = input.size();
  int64_t room = input[dim] + pads[dim] + pads[n + dim] - (kernel[dim] - 1) * dilations[dim] - 1;
  return room < 0 ? 0 : room / strides[dim] + 1;
}

int64_t PatchGeometry::rows() const {
  int64_t count = 1;
  for (size_t d = 0; d < input.size(); ++d)
    count *= outputSize(d);
  return count;
}

int64_t PatchGeometry::cols() const {
  int64_t count = channels / groups;
  for (int64_t size : kernel)
    count *= size;
  return count;
}

void gatherPatches(const float *image, const PatchGeometry &geometry, int64_t group, int64_t begin,
                   int64_t count, float *patches) {
  size_t n = geometry.input.size();
  int64_t channels = geometry.channels / geometry.groups, plane = 1, taps = 1;
  for (size_t d = 0; d < n; ++d) {
    plane *= geometry.input[d];
    taps *= geometry.kernel[d];
  }
  const float *base = image + group * channels * plane;
  // Where each tap reads, for one output position at a time; -1 in the padding.
  std::vector<int64_t> at(taps), position(n), tap(n);
  for (int64_t row = begin; row < begin + count; ++row) {
    int64_t rest = row;
    for (size_t d = n; d-- > 0;) {
      position[d] = rest % geometry.outputSize(d);
      rest /= geometry.outputSize(d);
    }
    std::fill(tap.begin(), tap.end(), 0);
    for (int64_t t = 0; t < taps; ++t) {
      int64_t offset = 0;
      for (size_t d = 0; d < n; ++d) {
        int64_t i = position[d] * geometry.strides[d] - geometry.pads[d] +
                    tap[d] * geometry.dilations[d];
        bool inside = offset >= 0 && i >= 0 && i < geometry.input[d];
        offset = inside ? offset * geometry.input[d] + i : -1;
      }
      at[t] = offset;
      for (size_t d = n; d-- > 0 && ++tap[d] == geometry.kernel[d];)
        tap[d] = 0;
    }
    for (int64_t c = 0; c < channels; ++c) {
      const float *from = base + c * plane;
      for (int64_t t = 0; t < taps; ++t)
        *patches++ = at[t] < 0 ? 0.0f : from[at[t]];
    }
  }
}

} // namespace lowbit
