//===- BulkCopies.cpp - copies by the engine: bulk and tensor (TMA) ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Grid.h"
#include "Instructions.h"
#include <cstring>

using namespace lowbit;
using namespace lowbit::emulator;

static uint32_t log2RowBytes(const lowbit_emu_tensor_map &map) {
  return map.swizzle ? 4 + map.swizzle : 0;
}

/// Calls body(offset in the swizzled box, address or null outside of the tensor, bytes) for every
/// element.
template <typename Body>
static void forBox(const lowbit_emu_tensor_map &map, const int32_t *at, uint64_t base, Body body) {
  uint32_t index[5] = {};
  uint64_t size = map.element_bytes, bytes = boxBytes(map);
  for (uint64_t offset = 0; offset < bytes; offset += size) {
    bool inside = true;
    char *address = static_cast<char *>(map.base);
    for (uint32_t i = 0; i < map.rank; ++i) {
      int64_t where = int64_t(at[i]) + index[i];
      inside &= where >= 0 && where < int64_t(map.sizes[i]);
      address += where * int64_t(i ? map.strides[i - 1] : size);
    }
    body(swizzled(base + offset, log2RowBytes(map)), inside ? address : nullptr, size);
    for (uint32_t i = 0; i < map.rank && ++index[i] == map.box[i]; ++i)
      index[i] = 0;
  }
}

static void checkLoad(Grid &grid, uint64_t target, uint64_t bytes) {
  if (grid.detectsRaces())
    grid.failIf(grid.sharedShadow.beginWrite(target, bytes, grid.running(), Kind::BulkCopy));
  // Whoever reads before waiting reads this.
  std::memset(static_cast<char *>(grid.sharedMemory()) + target, 0x7b, bytes);
}

void emulator::loadBulk(void *shared, const void *global, uint32_t bytes, void *object) {
  Grid &grid = Grid::current();
  BarrierObject &barrier = grid.object(object);
  if ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global) | bytes) % 16)
    grid.fail("cp.async.bulk whose addresses or size are no multiples of 16 bytes");
  PendingLoad load;
  load.target = grid.checkShared(shared, bytes);
  load.source = static_cast<const char *>(global);
  load.bytes = bytes;
  grid.checkGlobal(load.source, bytes, LOWBIT_EMU_READ_ACCESS);
  checkLoad(grid, load.target, bytes);
  barrier.loads.push_back(load);
}

static const lowbit_emu_tensor_map &mapOf(Grid &grid, const void *map, uint32_t rank) {
  auto *tensor = static_cast<const lowbit_emu_tensor_map *>(map);
  if (std::string error = verifyTensorMap(*tensor); !error.empty())
    grid.fail(error);
  if (tensor->rank != rank)
    grid.fail("a copy of " + std::to_string(rank) + " dimensions by a tensor map of " +
              std::to_string(tensor->rank));
  return *tensor;
}

static void checkTensorTarget(Grid &grid, const lowbit_emu_tensor_map &map, uint64_t offset) {
  uint64_t alignment = map.swizzle ? uint64_t(128) << map.swizzle : 128;
  if (offset % alignment)
    grid.fail("a tensor copy to offset " + std::to_string(offset) +
              " of shared memory, which is not aligned to " + std::to_string(alignment));
}

void emulator::loadTensor(void *shared, const void *map, const uint32_t *at, uint32_t rank,
                          void *object) {
  Grid &grid = Grid::current();
  BarrierObject &barrier = grid.object(object);
  PendingLoad load;
  load.map = &mapOf(grid, map, rank);
  load.bytes = boxBytes(*load.map);
  load.target = grid.checkShared(shared, load.bytes);
  checkTensorTarget(grid, *load.map, load.target);
  for (uint32_t i = 0; i < rank; ++i)
    load.at[i] = static_cast<int32_t>(at[i]);
  forBox(*load.map, load.at, load.target, [&](uint64_t, char *address, uint64_t bytes) {
    if (address)
      grid.checkGlobal(address, bytes, LOWBIT_EMU_READ_ACCESS);
  });
  checkLoad(grid, load.target, load.bytes);
  barrier.loads.push_back(load);
}

void emulator::land(BarrierObject &object) {
  Grid &grid = Grid::current();
  auto *start = static_cast<char *>(grid.sharedMemory());
  uint32_t engine = grid.clocks.copyEngine();
  for (const PendingLoad &load : object.loads) {
    if (load.map)
      forBox(*load.map, load.at, load.target, [&](uint64_t to, char *address, uint64_t bytes) {
        if (address)
          std::memcpy(start + to, address, bytes);
        else
          std::memset(start + to, 0, bytes);
      });
    else
      std::memcpy(start + load.target, load.source, load.bytes);
    if (grid.detectsRaces())
      grid.sharedShadow.land(load.target, load.bytes, engine, Kind::BulkCopy);
    object.bytes -= int64_t(load.bytes);
  }
  object.loads.clear();
  // Who learns of the phase's end learns of these writes.
  VectorClock copies(engine + 1, 0);
  copies[engine] = grid.clocks.advance(engine);
  Clocks::merge(object.joined, copies);
}

//===----------------------------------------------------------------------===//
// Out of shared memory
//===----------------------------------------------------------------------===//

static void beginStore(Grid &grid, PendingStore store) {
  if (grid.detectsRaces()) {
    if (const SharedRead *writer =
            grid.sharedShadow.unfenced(store.source, store.bytes, grid.proxyFences))
      grid.fail("a bulk copy reads what thread " + std::to_string(writer->thread) + " wrote with " +
                nameOf(writer->kind) + " and no fence.proxy.async followed");
    grid.failIf(
        grid.sharedShadow.beginRead(store.source, store.bytes, grid.running(), Kind::BulkCopy));
  }
  grid.thread().openStores.push_back(store);
}

void emulator::storeBulk(void *global, const void *shared, uint32_t bytes) {
  Grid &grid = Grid::current();
  if ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global) | bytes) % 16)
    grid.fail("cp.async.bulk whose addresses or size are no multiples of 16 bytes");
  PendingStore store;
  store.source = grid.checkShared(shared, bytes);
  store.target = static_cast<char *>(global);
  store.bytes = bytes;
  beginStore(grid, store);
}

void emulator::storeTensor(const uint32_t *at, const void *map, const void *shared, uint32_t rank) {
  Grid &grid = Grid::current();
  PendingStore store;
  store.map = &mapOf(grid, map, rank);
  store.bytes = boxBytes(*store.map);
  store.source = grid.checkShared(shared, store.bytes);
  checkTensorTarget(grid, *store.map, store.source);
  for (uint32_t i = 0; i < rank; ++i)
    store.at[i] = static_cast<int32_t>(at[i]);
  beginStore(grid, store);
}

void emulator::commitBulk() {
  Thread &thread = Grid::current().thread();
  thread.storeGroups.push_back(std::move(thread.openStores));
  thread.openStores.clear();
}

/// The data goes out, as late as the waits allow; after that shared memory may be written again.
static void perform(Grid &grid, PendingStore &store) {
  if (store.read)
    return;
  store.read = true;
  auto *start = static_cast<const char *>(grid.sharedMemory());
  auto write = [&](char *address, uint64_t from, uint64_t bytes) {
    grid.checkGlobal(address, bytes, LOWBIT_EMU_WRITE_ACCESS);
    std::memcpy(address, start + from, bytes);
  };
  if (store.map)
    forBox(*store.map, store.at, store.source, [&](uint64_t from, char *address, uint64_t bytes) {
      if (address)
        write(address, from, bytes);
    });
  else
    write(store.target, store.source, store.bytes);
  if (!grid.detectsRaces())
    return;
  uint32_t engine = grid.clocks.copyEngine();
  grid.sharedShadow.endRead(store.source, store.bytes, Kind::BulkCopy);
  VectorClock copies(engine + 1, 0);
  copies[engine] = grid.clocks.advance(engine);
  grid.clocks.acquire(grid.running(), copies);
}

void emulator::waitBulk(uint32_t pending, uint32_t) {
  Grid &grid = Grid::current();
  auto &groups = grid.thread().storeGroups;
  for (size_t i = 0; i + pending < groups.size(); ++i)
    for (PendingStore &store : groups[i])
      perform(grid, store);
  if (groups.size() > pending)
    groups.erase(groups.begin(), groups.end() - pending);
}

void emulator::finishStores() {
  Grid &grid = Grid::current();
  Thread &thread = grid.thread();
  if (!thread.openStores.empty())
    grid.fail("a thread ends with bulk copies that it has not committed");
  if (!thread.storeGroups.empty())
    grid.fail("a thread ends before its bulk copies have read shared memory");
}
