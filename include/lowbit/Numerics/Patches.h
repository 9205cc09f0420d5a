//===- lowbit/Numerics/Patches.h - the rows that a filter multiplies --------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_PATCHES_H
#define LOWBIT_NUMERICS_PATCHES_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lowbit {

/// A convolution of n spatial dimensions over one image [channels, spatial…].
struct PatchGeometry {
  int64_t channels = 0, groups = 1;
  /// n each; pads: all begins, then all ends.
  std::vector<int64_t> input, kernel, strides, dilations, pads;

  /// Elements of a patch: channels / groups · kernel elements.
  int64_t cols() const;
  /// Output positions of one image; 0 where the kernel does not fit.
  int64_t rows() const;
  int64_t outputSize(std::size_t dim) const;
};

/// The patches [count, cols] of output positions [begin, begin + count) (row-major over the output)
/// of channel group `group`: what each filter of the group is multiplied with, element for element
/// in the order of [channels / groups, kernel…]. Padding is 0.
void gatherPatches(const float *image, const PatchGeometry &geometry, int64_t group, int64_t begin,
                   int64_t count, float *patches);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_PATCHES_H
