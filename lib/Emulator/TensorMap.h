//===- TensorMap.h - boxes of tensors, and how shared memory is swizzled ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EMULATOR_TENSORMAP_H
#define LOWBIT_LIB_EMULATOR_TENSORMAP_H

#include "lowbit-c/Emulator.h"
#include <cstdint>
#include <string>

namespace lowbit::emulator {

/// "" or why the device would refuse it.
std::string verifyTensorMap(const lowbit_emu_tensor_map &map);
/// From the first to the last element.
uint64_t tensorBytes(const lowbit_emu_tensor_map &map);
uint64_t boxBytes(const lowbit_emu_tensor_map &map);

/// Where the byte that lies at `offset` without swizzling lies in rows of 32, 64 or 128 bytes
/// (log2 5, 6, 7; others: the same): 16-byte chunks are permuted by the number of the 128-byte
/// line.
inline uint64_t swizzled(uint64_t offset, uint32_t log2RowBytes) {
  if (log2RowBytes < 5 || log2RowBytes > 7)
    return offset;
  uint64_t mask = (uint64_t(1) << (log2RowBytes - 4)) - 1;
  return offset ^ (offset >> 7 & mask) << 4;
}

/// A copy of the engine into shared memory; of a tensor where `map` is set.
struct PendingLoad {
  uint64_t target = 0; // offset
  const char *source = nullptr;
  uint64_t bytes = 0;
  const lowbit_emu_tensor_map *map = nullptr;
  int32_t at[5] = {};
};

/// And out of it.
struct PendingStore {
  uint64_t source = 0; // offset
  char *target = nullptr;
  uint64_t bytes = 0;
  const lowbit_emu_tensor_map *map = nullptr;
  int32_t at[5] = {};
  bool read = false; // shared memory may be written again
};

/// What threads that end leave to the engine.
void finishStores();
/// Every load that an object waits for lands.
struct BarrierObject;
void land(BarrierObject &object);

} // namespace lowbit::emulator

#endif // LOWBIT_LIB_EMULATOR_TENSORMAP_H
