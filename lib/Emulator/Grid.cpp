//===- Grid.cpp - one launch: its blocks, warps and threads ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Grid.h"
#include <cstring>

using namespace lowbit::emulator;

static thread_local Grid *currentGrid = nullptr;

Grid &Grid::current() { return *currentGrid; }

Grid::Grid(Kernel kernel, void *const *parameters, const lowbit_emu_launch &launch,
           std::vector<Buffer> buffers)
    : kernel(kernel), parameters(parameters), launch(launch), buffers(std::move(buffers)),
      sharedStorage(launch.shared_bytes + 128),
      threads(std::size_t(launch.block[0]) * launch.block[1] * launch.block[2]),
      random(launch.seed) {
  auto address = reinterpret_cast<uintptr_t>(sharedStorage.data());
  shared = sharedStorage.data() + (128 - address % 128) % 128;
  warps.resize((threads.size() + kLanes - 1) / kLanes);
  for (uint32_t i = 0; i < threads.size(); ++i)
    threads[i].id = i;
}

std::string Grid::run() {
  Grid *outer = currentGrid;
  currentGrid = this;
  for (block[2] = 0; block[2] < launch.grid[2] && error.empty(); ++block[2])
    for (block[1] = 0; block[1] < launch.grid[1] && error.empty(); ++block[1])
      for (block[0] = 0; block[0] < launch.grid[0] && error.empty(); ++block[0])
        runBlock();
  currentGrid = outer;
  return error;
}

void Grid::threadMain(void *grid) {
  auto *self = static_cast<Grid *>(grid);
  self->kernel(self->parameters);
  ++self->done;
  self->suspend(State::Done);
}

void Grid::runBlock() {
  std::memset(shared, 0x55, launch.shared_bytes);
  warps.assign(warps.size(), Warp());
  atBarrier = done = 0;
  for (Thread &thread : threads) {
    thread.state = State::Ready;
    thread.open.clear();
    thread.groups.clear();
    thread.fiber.prepare(threadMain, this);
  }
  // A random warp runs for a random, often long, while: a warp may be several barriers' worth of
  // work ahead of another wherever nothing stops it.
  while (error.empty() && done < threads.size()) {
    uint32_t first = random() % warps.size(), warp = first;
    auto canRun = [&](uint32_t w) {
      for (uint32_t i = w * kLanes; i < threads.size() && i < (w + 1) * kLanes; ++i)
        if (threads[i].state == State::Ready)
          return true;
      return false;
    };
    while (!canRun(warp)) {
      warp = (warp + 1) % warps.size();
      if (warp == first) {
        error = describeWaiting();
        return;
      }
    }
    uint32_t rounds = 1 + random() % 400, shift = random() % kLanes;
    for (bool any = true; any && rounds && error.empty(); --rounds) {
      any = false;
      for (uint32_t i = 0; i < kLanes && error.empty(); ++i) {
        uint32_t index = warp * kLanes + (i + shift) % kLanes;
        if (index < threads.size() && threads[index].state == State::Ready) {
          resume(index);
          any = true;
        }
      }
    }
  }
}

std::string Grid::describeWaiting() const {
  uint32_t inWarp = 0;
  for (const Thread &thread : threads)
    inWarp += thread.state == State::InWarp;
  return "deadlock in block (" + std::to_string(block[0]) + ", " + std::to_string(block[1]) +
         "): of " + std::to_string(threads.size()) + " threads " + std::to_string(atBarrier) +
         " wait at a barrier, " + std::to_string(inWarp) + " for other lanes of their warp, " +
         std::to_string(done) + " have ended";
}

void Grid::resume(uint32_t index) {
  running = index;
  switchContext(scheduler, threads[index].fiber.context);
}

void Grid::suspend(State state) {
  Thread &self = thread();
  self.state = state;
  switchContext(self.fiber.context, scheduler);
}

void Grid::fail(const std::string &message) {
  uint32_t width = launch.block[0], plane = width * launch.block[1];
  error = message + " (block " + std::to_string(block[0]) + ", " + std::to_string(block[1]) + ", " +
          std::to_string(block[2]) + ", thread " + std::to_string(running % width) + ", " +
          std::to_string(running % plane / width) + ", " + std::to_string(running / plane) + ")";
  suspend(State::Done);
  __builtin_unreachable();
}

uint32_t Grid::specialRegister(uint32_t which) const {
  uint32_t width = launch.block[0], plane = width * launch.block[1];
  switch (which) {
  case LOWBIT_EMU_TID_X:
    return running % width;
  case LOWBIT_EMU_TID_Y:
    return running % plane / width;
  case LOWBIT_EMU_TID_Z:
    return running / plane;
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
    return running % kLanes;
  }
}

void Grid::check(const void *address, uint64_t bytes, uint32_t access) {
  auto *begin = static_cast<const char *>(address);
  if (access == LOWBIT_EMU_SHARED_READ || access == LOWBIT_EMU_SHARED_WRITE) {
    if (begin < shared || begin + bytes > shared + launch.shared_bytes)
      fail("shared memory access of " + std::to_string(bytes) + " bytes at offset " +
           std::to_string(begin - shared) + " of " + std::to_string(launch.shared_bytes));
  } else {
    bool write = access == LOWBIT_EMU_GLOBAL_WRITE;
    for (const Buffer &buffer : buffers)
      if (begin >= buffer.begin && begin + bytes <= buffer.end) {
        if (write && !buffer.writable)
          fail("write of " + std::to_string(bytes) + " bytes into a read-only buffer");
        if (reinterpret_cast<uintptr_t>(begin) % bytes && (bytes & (bytes - 1)) == 0)
          fail("misaligned access of " + std::to_string(bytes) + " bytes");
        return;
      }
    fail(std::string(write ? "write of " : "read of ") + std::to_string(bytes) +
         " bytes outside of every buffer");
  }
  if (reinterpret_cast<uintptr_t>(begin) % bytes && (bytes & (bytes - 1)) == 0)
    fail("misaligned shared memory access of " + std::to_string(bytes) + " bytes");
}

void Grid::barrier(uint32_t id) {
  if (atBarrier && id != barrierId)
    fail("threads of one block wait at barriers " + std::to_string(barrierId) + " and " +
         std::to_string(id));
  barrierId = id;
  // Threads that have ended no longer count, as on the device.
  if (++atBarrier + done < threads.size())
    return suspend(State::AtBarrier);
  atBarrier = 0;
  for (Thread &other : threads)
    if (other.state == State::AtBarrier)
      other.state = State::Ready;
}

const Meeting &Grid::meet(uint32_t code, const uint32_t *words, uint32_t count,
                          const void *pointer) {
  uint32_t index = running / kLanes, me = lane();
  Warp &warp = warps[index];
  Meeting &meeting = warp.meetings[warp.phase[me]];
  warp.phase[me] ^= 1;
  if (meeting.arrived && meeting.code != code)
    fail("lanes of one warp meet at different instructions");
  meeting.code = code;
  if (count)
    std::memcpy(meeting.words[me], words, count * sizeof(uint32_t));
  meeting.pointers[me] = pointer;
  if (++meeting.arrived < kLanes) {
    suspend(State::InWarp);
    return meeting;
  }
  meeting.arrived = 0;
  for (uint32_t i = 0; i < kLanes; ++i)
    if (Thread &other = threads[index * kLanes + i]; other.state == State::InWarp)
      other.state = State::Ready;
  return meeting;
}
