//===- LaunchPlan.h - the launches of a run, for inputs of one set of shapes -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_LAUNCHPLAN_H
#define LOWBIT_LIB_RUNTIME_LAUNCHPLAN_H

#include <cstdint>
#include <vector>

namespace lowbit::runtime {

/// Where something is, in terms that hold for every replay.
struct PlanAddress {
  enum Space : uint8_t {
    Buffer,   ///< Buffer number `index` of the plan.
    Input,    ///< Input number `index` of the model.
    Weights,  ///< The data section of the weights.
    Constants ///< LaunchPlan::constants.
  };
  Space space;
  int64_t index;
  int64_t offset; ///< In bytes.
};

/// Memory that the model allocated on the device.
struct PlanBuffer {
  int64_t bytes;
  /// The first and the last step that uses it; first > last where none does.
  int64_t first, last;
  int64_t offset; ///< In the arena, where it is no output.
  int64_t output; ///< The result that it is, as a whole and row-major; else -1.
};

struct PlanStep {
  /// A launch, or a copy of `bytes` bytes where it is negative.
  int64_t kernel = -1;
  /// Of lowbit-c/Model.h: blocks, threads, bytes of dynamic shared memory.
  int64_t shape[7] = {};
  /// One for each parameter; of those that are addresses, the place in `addresses`.
  std::vector<int64_t> values;
  /// Of a copy: to, from.
  std::vector<PlanAddress> addresses;
  int64_t bytes = 0;
};

/// What a run does on the device: the same for all inputs of the same shapes, and of the same
/// values where the host reads those. Immutable once made.
struct LaunchPlan {
  std::vector<PlanStep> steps;
  std::vector<PlanBuffer> buffers;
  /// Sizes of the inputs.
  std::vector<int64_t> inputBytes;

  struct Result {
    PlanAddress at; ///< Row-major from here on.
    std::vector<int64_t> shape;
    int64_t bytes;
  };
  std::vector<Result> results;
  /// What the host computed and copied to the device, or returned.
  std::vector<char> constants;

  int64_t arenaBytes = 0;
  /// What the buffers of the arena take together.
  int64_t totalBytes = 0;

  /// Gives the buffers that are no outputs places in the arena.
  void layOutBuffers();
  /// How many bytes there are from an address on to the end of what it is in; the caller knows
  /// about weights.
  int64_t bytesFrom(const PlanAddress &address) const;
};

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_LAUNCHPLAN_H
