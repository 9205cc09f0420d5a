//===- Clocks.h - which accesses of a block's threads are in order ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Vector clocks, after Flanagan and Freund, "FastTrack: efficient and precise dynamic race
// detection" (PLDI 2009). Each thread counts what it releases; an access is the pair (thread,
// count), and it comes before whatever another thread does once that thread has learnt of that
// count. Block-wide barriers, which teach everyone everything, are one shared vector; only what
// single threads learn otherwise is kept per thread.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EMULATOR_CLOCKS_H
#define LOWBIT_LIB_EMULATOR_CLOCKS_H

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lowbit::emulator {

using VectorClock = std::vector<uint32_t>;

class Clocks {
public:
  /// One more than the threads: the last is the engine of asynchronous bulk copies.
  void resize(uint32_t threads) {
    own.assign(threads + 1, 1);
    common.assign(threads + 1, 0);
    learnt.assign(threads + 1, {});
  }
  uint32_t copyEngine() const { return static_cast<uint32_t>(own.size()) - 1; }

  /// Another block: everything before is in order, and older than `start`.
  void beginBlock() {
    start = *std::max_element(own.begin(), own.end()) + 1;
    std::fill(own.begin(), own.end(), start);
    std::fill(common.begin(), common.end(), start - 1);
    forget();
  }
  /// The smallest count of this block.
  uint32_t blockStart() const { return start; }
  uint32_t now(uint32_t thread) const { return own[thread]; }

  /// Whether what `by` did at `clock` comes before what `thread` does now.
  bool ordered(uint32_t by, uint32_t clock, uint32_t thread) const {
    return by == thread || clock <= common[by] ||
           (anyLearnt && !learnt[thread].empty() && clock <= learnt[thread][by]);
  }

  /// All threads have met.
  void joinAll() {
    uint32_t engine = copyEngine(), copies = common[engine];
    if (anyLearnt)
      for (const VectorClock &clock : learnt)
        if (!clock.empty())
          copies = std::max(copies, clock[engine]);
    std::copy(own.begin(), own.end(), common.begin());
    common[engine] = copies;
    for (uint32_t i = 0; i < engine; ++i)
      ++own[i];
    forget();
  }

  /// Everything that `thread` has done or knows of, which whoever acquires it will know.
  VectorClock release(uint32_t thread) {
    VectorClock known = common;
    merge(known, learnt[thread]);
    known[thread] = own[thread]++;
    return known;
  }
  void acquire(uint32_t thread, const VectorClock &known) {
    if (known.empty())
      return;
    if (learnt[thread].empty())
      learnt[thread] = common;
    merge(learnt[thread], known);
    anyLearnt = true;
  }
  /// Later events of `thread` are told from earlier ones.
  uint32_t advance(uint32_t thread) { return own[thread]++; }

  static void merge(VectorClock &into, const VectorClock &from) {
    if (into.empty()) {
      into = from;
      return;
    }
    for (size_t i = 0; i < from.size(); ++i)
      into[i] = std::max(into[i], from[i]);
  }

private:
  void forget() {
    if (anyLearnt)
      for (VectorClock &clock : learnt)
        clock.clear();
    anyLearnt = false;
  }

  VectorClock own, common;
  std::vector<VectorClock> learnt; // empty where a thread knows no more than `common`
  bool anyLearnt = false;
  uint32_t start = 1;
};

} // namespace lowbit::emulator

#endif // LOWBIT_LIB_EMULATOR_CLOCKS_H
