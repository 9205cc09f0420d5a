//===- ArenaLayout.h - buffers of known lifetimes in one arena -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_ARENALAYOUT_H
#define LOWBIT_LIB_RUNTIME_ARENALAYOUT_H

#include <cstdint>
#include <vector>

namespace lowbit::runtime {

/// A buffer that holds something from step `first` to step `last`, both included.
struct ArenaItem {
  int64_t bytes; ///< ≥ 0
  int64_t first, last;
  int64_t offset = 0; ///< Set by layOut().
};

/// What every offset in an arena is a multiple of, as cuMemAlloc's addresses are.
constexpr int64_t arenaAlignment = 256;

/// Gives every item an offset such that no two whose lifetimes meet share a byte, and returns the
/// size of the arena. Best fit, the largest first (Pisarchyk and Lee, "Efficient Memory Management
/// for Deep Neural Net Inference", 2020): each goes into the smallest gap between those that live
/// at the same time. The same items give the same offsets.
int64_t layOut(std::vector<ArenaItem> &items);

/// Whether no two items whose lifetimes meet share a byte, and all lie within `arenaBytes`.
bool isSound(const std::vector<ArenaItem> &items, int64_t arenaBytes);

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_ARENALAYOUT_H
