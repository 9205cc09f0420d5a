//===- ChannelStats.h - statistics of channels that were changed ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TRANSFORMS_CHANNELSTATS_H
#define LOWBIT_LIB_TRANSFORMS_CHANNELSTATS_H

#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "mlir/IR/BuiltinOps.h"
#include <optional>
#include <vector>

namespace lowbit {

/// What an observer knows of each channel.
struct ChannelStats {
  std::vector<float> min, max;
  std::vector<float> mean, absmean; ///< Empty where they are not known.

  /// Nothing where the observer has no channel_min and channel_max.
  static std::optional<ChannelStats> get(ObserveOp op);
};

/// The axis whose channels an observer counts.
int64_t getChannelAxis(ObserveOp op);

/// Statistics of x·factor + shift (factor > 0), one pair per channel of the observer. What cannot be known any more (a
/// histogram where factors differ) goes away; so do the statistics as a whole where not even the range is known.
void transformStats(ObserveOp op, ArrayRef<double> factor, ArrayRef<double> shift);

/// An error at the module where no observer has statistics of channels, which `transform` reads.
LogicalResult checkStatistics(ModuleOp module, StringRef transform);

} // namespace lowbit

#endif // LOWBIT_LIB_TRANSFORMS_CHANNELSTATS_H
