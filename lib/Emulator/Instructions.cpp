//===- Instructions.cpp - the table of device instructions ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Instructions.h"
#include "Grid.h"
#include <cstring>

using namespace lowbit;
using namespace lowbit::emulator;

//===----------------------------------------------------------------------===//
// Asynchronous copies
//===----------------------------------------------------------------------===//

static void copyAsync(void *target, const void *source, uint32_t bytes, uint32_t valid) {
  Grid &grid = Grid::current();
  if ((reinterpret_cast<uintptr_t>(target) | reinterpret_cast<uintptr_t>(source)) % bytes)
    grid.fail("cp.async of " + std::to_string(bytes) + " bytes that are not aligned to as many");
  uint64_t offset = grid.checkShared(target, bytes);
  grid.noteCopy(offset, bytes, __builtin_return_address(0));
  if (grid.detectsRaces())
    grid.failIf(grid.sharedShadow.beginWrite(offset, bytes, grid.running(), Kind::CopyAsync));
  if (valid > bytes)
    grid.fail("cp.async of " + std::to_string(bytes) + " bytes, of them " + std::to_string(valid) +
              " from memory");
  if (valid)
    grid.checkGlobal(static_cast<const char *>(source), valid, LOWBIT_EMU_READ_ACCESS);
  // Whoever reads before the wait reads this.
  std::memset(target, 0x7b, bytes);
  grid.thread().open.push_back(
      {static_cast<char *>(target), static_cast<const char *>(source), bytes, valid});
}

static void commitGroup() {
  Thread &thread = Grid::current().thread();
  thread.groups.push_back(std::move(thread.open));
  thread.open.clear();
}

static void waitGroup(uint32_t pending) {
  Grid &grid = Grid::current();
  auto &groups = grid.thread().groups;
  auto *start = static_cast<char *>(grid.sharedMemory());
  while (groups.size() > pending) {
    for (const PendingCopy &copy : groups.front()) {
      std::memset(copy.target, 0, copy.bytes);
      std::memcpy(copy.target, copy.source, copy.valid);
      if (grid.detectsRaces())
        grid.sharedShadow.land(copy.target - start, copy.bytes, grid.running(), Kind::CopyAsync);
    }
    groups.erase(groups.begin());
  }
}

//===----------------------------------------------------------------------===//
// The table
//===----------------------------------------------------------------------===//

// The return address tells the access apart from others of the kernel.
static void check(const void *address, uint64_t bytes, uint32_t access) {
  Grid::current().check(address, bytes, access, __builtin_return_address(0));
}

static uint32_t barrierReduce(uint32_t id, uint32_t count, uint32_t value, uint32_t kind) {
  Grid &grid = Grid::current();
  grid.barrier(id, count, /*arriveOnly=*/false, value);
  uint32_t truths = grid.thread().barrierResult >> 16,
           threads = grid.thread().barrierResult & 0xffff;
  switch (kind) {
  case LOWBIT_EMU_BARRIER_POPC:
    return truths;
  case LOWBIT_EMU_BARRIER_AND:
    return truths == threads;
  default:
    return truths != 0;
  }
}

const lowbit_emu_table_t &emulator::instructionTable() {
  static const lowbit_emu_table_t table = {
      LOWBIT_EMU_ABI,
      [](uint32_t which) { return Grid::current().specialRegister(which); },
      [] { return Grid::current().sharedMemory(); },
      check,
      copyAsync,
      commitGroup,
      waitGroup,
      [](uint32_t id, uint32_t count, uint32_t arriveOnly) {
        Grid::current().barrier(id, count, arriveOnly);
      },
      barrierReduce,
      [](uint32_t mask) { Grid::current().warpBarrier(mask); },
      [](uint32_t kind) { Grid::current().fence(kind); },
      loadMatrix,
      mmaInt8,
      mmaHalf,
      storeMatrix,
      shuffle,
      vote,
      match,
      reduce,
      [] { return Grid::current().activeLanes(); },
      elect,
      [] { Grid::current().waitForEarlierGrids(); },
      lop3,
      permute,
      dot4,
      roundToInt,
      approximate,
      [] { Grid::current().fail("the kernel stopped itself: it found its input invalid"); },
      initObject,
      invalidateObject,
      arriveAtObject,
      expectAtObject,
      waitForObject,
      loadBulk,
      storeBulk,
      loadTensor,
      storeTensor,
      commitBulk,
      waitBulk,
      fenceWarpgroup,
      commitWarpgroup,
      waitWarpgroup,
      multiplyWarpgroup,
      useWarpgroup,
  };
  return table;
}
