//===- ChannelGroups.h - channels of one tensor ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TRANSFORMS_CHANNELGROUPS_H
#define LOWBIT_LIB_TRANSFORMS_CHANNELGROUPS_H

#include "ChannelGraph.h"

namespace lowbit {

/// Classes that are compared with each other because a layer reads or makes them together.
struct ChannelGroup {
  std::vector<int32_t> ids; ///< Of classes, none of them fixed.
  /// Indices of weights that make and that read them, and of gains that make them.
  std::vector<size_t> producers, consumers, gains;
};

/// In the order of the first layer that makes or reads one of theirs.
std::vector<ChannelGroup> findChannelGroups(const ChannelGraph &graph);

} // namespace lowbit

#endif // LOWBIT_LIB_TRANSFORMS_CHANNELGROUPS_H
