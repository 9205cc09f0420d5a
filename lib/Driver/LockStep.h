//===- LockStep.h - many runs of one program that wait for each other ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Each run has a thread of its own, but only the one whose turn it is works: run 0 up to a
// point where it waits, then run 1 up to the same point, and so on. When the last one
// waits, the point is complete and run 0 goes on. What happens at a point so sees the
// runs in a fixed order, and needs no locks.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_DRIVER_LOCKSTEP_H
#define LOWBIT_LIB_DRIVER_LOCKSTEP_H

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace lowbit {

class LockStep {
public:
  /// Calls body(i) for i in [0, count), each on its own thread, in turns. Every body must wait()
  /// equally often, unless it returns false: then those that wait are woken, their wait() returns
  /// false, and so does this.
  bool run(size_t count, const std::function<bool(size_t)> &body);

  /// Called by the body of run `index`: returns when all runs have called it as often. The last
  /// one to do so calls `complete` first. False where another run has failed or `complete` did:
  /// the body is to return false.
  bool wait(size_t index, const std::function<bool()> &complete);

private:
  void passTurn(size_t index);

  std::mutex mutex;
  /// One per run, so that a turn wakes one thread.
  std::vector<std::unique_ptr<std::condition_variable>> wakes;
  size_t turn = 0, count = 0;
  bool failed = false;
};

} // namespace lowbit

#endif // LOWBIT_LIB_DRIVER_LOCKSTEP_H
