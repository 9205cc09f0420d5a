//===- Grid.cpp - one launch: its blocks, warps and threads ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Grid.h"
#include <cstring>
#include <numeric>

using namespace lowbit::emulator;

static thread_local Grid *currentGrid = nullptr;

Grid &Grid::current() { return *currentGrid; }

// Descriptors of warpgroup operands hold the low 18 bits of an address in shared memory, so that it
// starts where these are 0.
static constexpr uintptr_t kSharedAlignment = 1 << 18;

Grid::Grid(Kernel kernel, void *const *parameters, const lowbit_emu_launch &launch,
           std::vector<Buffer> buffers)
    : sharedShadow(clocks), globalShadow(clocks), kernel(kernel), parameters(parameters),
      launch(launch), buffers(std::move(buffers)),
      sharedStorage(new char[launch.shared_bytes + kSharedAlignment]),
      threads(std::size_t(launch.block[0]) * launch.block[1] * launch.block[2]),
      random(launch.seed) {
  auto address = reinterpret_cast<uintptr_t>(sharedStorage.get());
  shared = sharedStorage.get() + (kSharedAlignment - address % kSharedAlignment) % kSharedAlignment;
  warps.resize((threads.size() + kLanes - 1) / kLanes);
  clocks.resize(static_cast<uint32_t>(threads.size()));
  if (detectsRaces())
    sharedShadow.resize(launch.shared_bytes);
}

std::string Grid::run() {
  Grid *outer = currentGrid;
  currentGrid = this;
  // Blocks come in any order.
  uint64_t blocks = uint64_t(launch.grid[0]) * launch.grid[1] * launch.grid[2];
  std::vector<uint64_t> order(blocks);
  std::iota(order.begin(), order.end(), 0);
  for (uint64_t i = blocks; i > 1; --i)
    std::swap(order[i - 1], order[random() % i]);
  for (uint64_t number : order) {
    block[0] = number % launch.grid[0];
    block[1] = number / launch.grid[0] % launch.grid[1];
    block[2] = number / launch.grid[0] / launch.grid[1];
    runBlock(number);
    if (!error.empty())
      break;
    ++counts.blocks;
  }
  currentGrid = outer;
  return error;
}

void Grid::threadMain(void *grid) {
  auto *self = static_cast<Grid *>(grid);
  self->kernel(self->parameters);
  finishStores();
  self->endThread();
}

void Grid::endThread() {
  ++done;
  // Threads that have ended no longer count, as on the device.
  for (NamedBarrier &other : barriers)
    if (other.arrived && !other.expected && other.arrived + done == threads.size())
      complete(other);
  suspend(State::Done);
}

void Grid::runBlock(uint64_t number) {
  std::memset(shared, 0x55, launch.shared_bytes);
  for (Warp &warp : warps)
    warp = Warp();
  objects.clear();
  proxyFences.assign(threads.size(), 0);
  for (NamedBarrier &barrier : barriers)
    barrier = NamedBarrier();
  dependencyWaits.clear();
  done = 0;
  clocks.beginBlock();
  sharedShadow.beginBlock();
  globalShadow.beginBlock(static_cast<uint32_t>(number) + 1);
  for (uint32_t i = 0; i < threads.size(); ++i) {
    Thread &thread = threads[i];
    thread.state = State::Ready;
    ++warps[i / kLanes].ready;
    thread.dependencyMet = false;
    thread.open.clear();
    thread.groups.clear();
    thread.openStores.clear();
    thread.storeGroups.clear();
    thread.fiber.prepare(threadMain, this);
  }
  // A random warp runs for a random, often long, while: a warp may be several barriers' worth of
  // work ahead of another wherever nothing stops it.
  while (error.empty() && done < threads.size()) {
    uint32_t first = random() % warps.size(), warp = first;
    while (!warps[warp].ready) {
      warp = (warp + 1) % warps.size();
      if (warp == first) {
        error = describeWaiting();
        return;
      }
    }
    uint32_t rounds = 1 + random() % 400, shift = random() % kLanes;
    for (; warps[warp].ready && rounds && error.empty(); --rounds)
      for (uint32_t i = 0; i < kLanes && error.empty(); ++i) {
        uint32_t index = warp * kLanes + (i + shift) % kLanes;
        if (index < threads.size() && threads[index].state == State::Ready)
          resume(index);
      }
  }
  if (error.empty() && globalShadow.mustVerify())
    error = globalShadow.verify();
  for (Warp &warp : warps)
    warp.accesses.flush();
}

std::string Grid::describeWaiting() const {
  uint32_t inWarp = 0, atBarrier = 0, atObject = 0;
  for (const Thread &thread : threads) {
    inWarp += thread.state == State::InWarp;
    atBarrier += thread.state == State::AtBarrier;
    atObject += thread.state == State::AtObject;
  }
  return "deadlock in block (" + std::to_string(block[0]) + ", " + std::to_string(block[1]) + ", " +
         std::to_string(block[2]) + "): of " + std::to_string(threads.size()) + " threads " +
         std::to_string(atBarrier) + " wait at a barrier, " + std::to_string(atObject) +
         " at an mbarrier, " + std::to_string(inWarp) + " for other lanes of their warp, " +
         std::to_string(done) + " have ended";
}

void Grid::resume(uint32_t index) {
  runningThread = index;
  switchContext(scheduler, threads[index].fiber.context);
}

void Grid::suspend(State state) {
  if (globalShadow.mustVerify() && error.empty())
    error = globalShadow.verify();
  Thread &self = thread();
  self.state = state;
  --warps[runningThread / kLanes].ready;
  switchContext(self.fiber.context, scheduler);
}

void Grid::yield() {
  if (++polls > 1 << 22)
    fail("a thread polls in vain");
  switchContext(thread().fiber.context, scheduler);
}

void Grid::wake(uint32_t index) {
  polls = 0;
  threads[index].state = State::Ready;
  ++warps[index / kLanes].ready;
}

void Grid::fail(const std::string &message) {
  uint32_t width = launch.block[0], plane = width * launch.block[1];
  error = message + " (block " + std::to_string(block[0]) + ", " + std::to_string(block[1]) + ", " +
          std::to_string(block[2]) + ", thread " + std::to_string(runningThread % width) + ", " +
          std::to_string(runningThread % plane / width) + ", " +
          std::to_string(runningThread / plane) + ")";
  suspend(State::Done);
  __builtin_unreachable();
}

uint32_t Grid::specialRegister(uint32_t which) const {
  uint32_t width = launch.block[0], plane = width * launch.block[1];
  switch (which) {
  case LOWBIT_EMU_TID_X:
    return runningThread % width;
  case LOWBIT_EMU_TID_Y:
    return runningThread % plane / width;
  case LOWBIT_EMU_TID_Z:
    return runningThread / plane;
  case LOWBIT_EMU_NTID_X:
  case LOWBIT_EMU_NTID_Y:
  case LOWBIT_EMU_NTID_Z:
    return launch.block[which - LOWBIT_EMU_NTID_X];
  case LOWBIT_EMU_CTAID_X:
  case LOWBIT_EMU_CTAID_Y:
  case LOWBIT_EMU_CTAID_Z:
    return block[which - LOWBIT_EMU_CTAID_X];
  case LOWBIT_EMU_NCTAID_X:
  case LOWBIT_EMU_NCTAID_Y:
  case LOWBIT_EMU_NCTAID_Z:
    return launch.grid[which - LOWBIT_EMU_NCTAID_X];
  default:
    return runningThread % kLanes;
  }
}

uint32_t Grid::activeLanes() const {
  uint32_t first = runningThread / kLanes * kLanes, lanes = 0;
  for (uint32_t i = 0; i < kLanes && first + i < threads.size(); ++i)
    if (threads[first + i].state == State::Ready)
      lanes |= 1u << i;
  return lanes;
}
