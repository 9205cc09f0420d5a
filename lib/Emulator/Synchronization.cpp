//===- Synchronization.cpp - barriers and meetings of lanes ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Grid.h"
#include "Instructions.h"
#include <cstring>

using namespace lowbit::emulator;

void Grid::complete(NamedBarrier &barrier) {
  ++counts.barriers;
  if (!barrier.partial)
    clocks.joinAll();
  for (uint32_t index : barrier.waiting) {
    if (barrier.partial)
      clocks.acquire(index, barrier.joined);
    threads[index].barrierResult = barrier.truths << 16 | barrier.count;
    wake(index);
  }
  // All threads of the block have met: so have all lanes of each warp.
  if (!barrier.partial)
    for (Warp &warp : warps)
      warp.accesses.flush();
  barrier = NamedBarrier();
}

void Grid::barrier(uint32_t id, uint32_t count, bool arriveOnly, uint32_t value) {
  if (id >= 16)
    fail("barrier " + std::to_string(id) + " does not exist; a block has barriers 0 to 15");
  if (count % kLanes || count > threads.size())
    fail("a barrier of " + std::to_string(count) + " threads in a block of " +
         std::to_string(threads.size()));
  NamedBarrier &barrier = barriers[id];
  if (barrier.arrived && barrier.expected != count)
    fail("threads come to barrier " + std::to_string(id) + " with the counts " +
         std::to_string(barrier.expected) + " and " + std::to_string(count));
  barrier.expected = count;
  if (arriveOnly && !count)
    fail("bar.arrive without a number of threads");
  barrier.partial |= arriveOnly || count;
  if (barrier.partial)
    Clocks::merge(barrier.joined, clocks.release(runningThread));
  barrier.truths += value != 0;
  barrier.count = ++barrier.arrived;
  bool last = count ? barrier.arrived == count : barrier.arrived + done == threads.size();
  if (arriveOnly) {
    if (last)
      complete(barrier);
    return;
  }
  // The last one, too, is woken: whoever runs next is chosen anew.
  barrier.waiting.push_back(runningThread);
  if (!last)
    return suspend(State::AtBarrier);
  --warps[runningThread / kLanes].ready;
  complete(barrier);
}

const Meeting &Grid::meet(uint32_t code, uint32_t mask, const uint32_t *words, uint32_t count,
                          void *pointer, Compute compute) {
  uint32_t first = runningThread / kLanes * kLanes, bit = 1u << lane();
  Warp &warp = warps[runningThread / kLanes];
  if (threads.size() - first < kLanes) // The last warp may have fewer lanes.
    mask &= (1u << (threads.size() - first)) - 1;
  if (!(mask & bit))
    fail("a lane executes an instruction of a whole warp whose mask leaves it out");
  Meeting *meeting = nullptr, *unused = nullptr;
  for (std::unique_ptr<Meeting> &other : warp.meetings) {
    if (!other->present && !other->arrived) {
      unused = other.get();
      continue;
    }
    if (other->arrived == other->mask || !(other->mask & mask))
      continue; // Complete, or of other lanes.
    if (other->code != code || other->mask != mask)
      fail("lanes of one warp meet at different instructions");
    meeting = other.get();
  }
  if (!meeting && !unused) {
    warp.meetings.push_back(std::make_unique<Meeting>());
    unused = warp.meetings.back().get();
  }
  if (!meeting) {
    meeting = unused;
    meeting->code = code;
    meeting->mask = mask;
  }
  meeting->arrived |= bit;
  meeting->present |= bit;
  if (count)
    std::memcpy(meeting->words[lane()], words, count * sizeof(uint32_t));
  meeting->pointers[lane()] = pointer;
  if (meeting->arrived != mask) {
    suspend(State::InWarp);
  } else {
    if (compute)
      compute(*meeting);
    for (uint32_t i = 0; i < kLanes; ++i)
      if (mask >> i & 1 && first + i != runningThread)
        wake(first + i);
    if (mask == ~0u)
      warp.accesses.flush();
  }
  meeting->present &= ~bit;
  if (!meeting->present)
    meeting->arrived = 0;
  return *meeting;
}

void Grid::warpBarrier(uint32_t mask) {
  meet(kWarpBarrier, mask, nullptr, 0, nullptr, [](Meeting &meeting) {
    Grid &grid = Grid::current();
    uint32_t first = grid.runningThread / kLanes * kLanes;
    VectorClock joined;
    for (uint32_t i = 0; i < kLanes; ++i)
      if (meeting.mask >> i & 1)
        Clocks::merge(joined, grid.clocks.release(first + i));
    for (uint32_t i = 0; i < kLanes; ++i)
      if (meeting.mask >> i & 1)
        grid.clocks.acquire(first + i, joined);
  });
}

void Grid::fence(uint32_t kind) {
  if (kind == LOWBIT_EMU_FENCE_DEVICE && detectsRaces())
    globalShadow.fence(runningThread);
  if (kind == LOWBIT_EMU_FENCE_ASYNC_PROXY)
    proxyFences[runningThread] = clocks.advance(runningThread);
}

void Grid::waitForEarlierGrids() {
  thread().dependencyMet = true;
  dependencyWaits.push_back({runningThread, clocks.advance(runningThread)});
}
