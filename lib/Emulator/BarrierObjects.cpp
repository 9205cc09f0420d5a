//===- BarrierObjects.cpp - mbarrier ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A phase ends when all arrivals have come and all announced bytes have been copied. Copies land as
// late as they can: when somebody waits for a phase that nothing else is missing from.
//
//===----------------------------------------------------------------------===//
#include "Grid.h"
#include "Instructions.h"

using namespace lowbit;
using namespace lowbit::emulator;

static void checkAddress(Grid &grid, const void *address) {
  if (reinterpret_cast<uintptr_t>(address) % 8)
    grid.fail("an mbarrier that is not aligned to 8 bytes");
}

BarrierObject &Grid::object(void *address) {
  checkAddress(*this, address);
  uint64_t offset = checkShared(address, 8);
  auto found = objects.find(offset);
  if (found == objects.end())
    fail("the mbarrier at offset " + std::to_string(offset) +
         " of shared memory has not been initialized");
  // Whoever initialized it must come before.
  noteSharedRead(offset, 8, Kind::Barrier);
  return found->second;
}

static void endPhase(Grid &grid, BarrierObject &object) {
  if (object.pending)
    return;
  if (!object.loads.empty() && !object.waiting.empty())
    land(object);
  if (object.bytes)
    return;
  ++object.phase;
  object.pending = object.count;
  object.released = std::move(object.joined);
  object.joined.clear();
  std::vector<uint32_t> waiting = std::move(object.waiting);
  object.waiting.clear();
  for (uint32_t thread : waiting)
    grid.wake(thread);
}

void emulator::initObject(void *address, uint32_t count) {
  Grid &grid = Grid::current();
  checkAddress(grid, address);
  uint64_t offset = grid.checkShared(address, 8);
  if (!count || count >= 1 << 20)
    grid.fail("an mbarrier for " + std::to_string(count) + " arrivals");
  grid.noteSharedWrite(offset, 8, Kind::Store);
  BarrierObject object;
  object.count = object.pending = count;
  grid.objects[offset] = std::move(object);
}

void emulator::invalidateObject(void *address) {
  Grid &grid = Grid::current();
  grid.object(address);
  uint64_t offset = grid.checkShared(address, 8);
  grid.noteSharedWrite(offset, 8, Kind::Store);
  grid.objects.erase(offset);
}

void emulator::expectAtObject(void *address, uint32_t bytes) {
  Grid::current().object(address).bytes += bytes;
}

uint64_t emulator::arriveAtObject(void *address, uint32_t count, uint32_t bytes) {
  Grid &grid = Grid::current();
  BarrierObject &object = grid.object(address);
  if (!object.pending) { // Time has passed since the last arrival.
    land(object);
    endPhase(grid, object);
  }
  if (object.pending < count)
    grid.fail("more arrivals at an mbarrier than the " + std::to_string(object.count) +
              " of a phase");
  uint64_t phase = object.phase;
  object.bytes += bytes;
  object.pending -= count;
  Clocks::merge(object.joined, grid.clocks.release(grid.running()));
  endPhase(grid, object);
  return phase;
}

uint32_t emulator::waitForObject(void *address, uint64_t phase, uint32_t kind) {
  Grid &grid = Grid::current();
  BarrierObject &object = grid.object(address);
  if (kind & LOWBIT_EMU_WAIT_PARITY) // The phase that is running, or the one before it.
    phase = object.phase % 2 == (phase & 1) ? object.phase : object.phase - 1;
  while (int64_t(object.phase - phase) <= 0) {
    object.waiting.push_back(grid.running());
    grid.thread().state = State::AtObject; // So that endPhase may wake it.
    --grid.warp().ready;
    endPhase(grid, object);
    if (grid.thread().state == State::Ready)
      continue;
    if (kind & LOWBIT_EMU_WAIT_TEST) {
      object.waiting.pop_back();
      grid.thread().state = State::Ready;
      ++grid.warp().ready;
      grid.yield();
      return 0;
    }
    ++grid.warp().ready; // Which suspend takes back.
    grid.suspend(State::AtObject);
  }
  grid.clocks.acquire(grid.running(), object.released);
  return 1;
}
