//===- ChannelPatterns.h - channel patterns through data movement ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TRANSFORMS_CHANNELPATTERNS_H
#define LOWBIT_LIB_TRANSFORMS_CHANNELPATTERNS_H

#include "ChannelGraph.h"
#include <optional>

namespace lowbit {

/// Row-major strides of a shape, 0 along dims of size 1.
SmallVector<int64_t> broadcastStrides(ArrayRef<int64_t> shape);

/// `pattern` with the dims of `shape`, which it broadcasts to (fewer dims are the last ones).
ChannelPattern broadcast(const ChannelPattern &pattern, ArrayRef<int64_t> shape);

/// The shape that both broadcast to; nothing where they do not.
std::optional<SmallVector<int64_t, 4>> broadcastShape(ArrayRef<int64_t> a, ArrayRef<int64_t> b);

ChannelPattern transposed(const ChannelPattern &pattern, ArrayRef<int64_t> permutation);

/// The positions `positions` of `axis`, which varies; -1 for a new channel that `fresh` gives.
ChannelPattern selected(const ChannelPattern &pattern, size_t axis, ArrayRef<int64_t> positions,
                        llvm::function_ref<int32_t()> fresh);

/// Dims of `from` and of `to` that hold the same elements: each pair of ranges of dims is reshaped
/// by itself. Row-major order tells them from the last dims to the first dynamic one, and from the
/// first on likewise; what is left between is one pair in which nothing may vary.
struct ReshapeGroups {
  struct Group {
    size_t fromBegin, fromEnd, toBegin, toEnd;
    bool exact; ///< Sizes are static and the products agree.
  };
  std::vector<Group> groups; ///< In order, and together all dims.
};
ReshapeGroups reshapeGroups(ArrayRef<int64_t> from, ArrayRef<int64_t> to);

/// `pattern` of a value of shape `from` after a Reshape to `to`; it varies in exact groups only.
ChannelPattern reshaped(const ChannelPattern &pattern, ArrayRef<int64_t> from, ArrayRef<int64_t> to,
                        const ReshapeGroups &groups);

} // namespace lowbit

#endif // LOWBIT_LIB_TRANSFORMS_CHANNELPATTERNS_H
