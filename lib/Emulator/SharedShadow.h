//===- SharedShadow.h - who last touched each byte of shared memory ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EMULATOR_SHAREDSHADOW_H
#define LOWBIT_LIB_EMULATOR_SHAREDSHADOW_H

#include "Clocks.h"
#include <cstdint>
#include <string>
#include <vector>

namespace lowbit::emulator {

/// What touched memory, for messages and for the rules of atomics and asynchronous copies.
enum class Kind : uint8_t {
  Load,
  Store,
  Atomic,
  CopyAsync,
  LoadMatrix,
  StoreMatrix,
  Barrier, // an mbarrier object
  BulkCopy,
  WarpgroupMma
};
const char *nameOf(Kind kind);

struct SharedRead {
  uint32_t thread, clock;
  Kind kind;
};

/// The last write of a byte and every read since that no other follows.
class SharedShadow {
public:
  explicit SharedShadow(const Clocks &clocks) : clocks(clocks) {}
  void resize(uint64_t bytes) { cells.assign(bytes, Cell()); }
  void beginBlock() { numReadSets = 0; }

  /// Each notes an access to [offset, offset + bytes) and returns "" or which other access it races
  /// with.
  std::string read(uint64_t offset, uint64_t bytes, uint32_t thread, Kind kind);
  std::string write(uint64_t offset, uint64_t bytes, uint32_t thread, Kind kind);

  /// An asynchronous write has been asked for: until `land` nobody may touch these bytes.
  std::string beginWrite(uint64_t offset, uint64_t bytes, uint32_t thread, Kind kind);
  /// `thread` has waited for it.
  void land(uint64_t offset, uint64_t bytes, uint32_t thread, Kind kind);

  /// Between these an asynchronous instruction of `thread` reads the bytes; it ends at the present
  /// count of the copy engine.
  std::string beginRead(uint64_t offset, uint64_t bytes, uint32_t thread, Kind kind);
  void endRead(uint64_t offset, uint64_t bytes, Kind kind);

  /// The last normal write of the byte that was not followed by fence.proxy.async on its thread, or
  /// null: `fences` holds each thread's count at its last such fence.
  const SharedRead *unfenced(uint64_t offset, uint64_t bytes, const VectorClock &fences);

private:
  struct Cell {
    uint32_t writeClock = 0, readClock = 0;
    uint16_t writer = 0, reader = 0;
    Kind writeKind = Kind::Load, readKind = Kind::Load;
    bool landing = false;
    uint16_t readers = 0; // asynchronous ones, not yet done
    uint32_t readSet = 0; // 1 + index of the other readers
  };
  struct ReadSet {
    std::vector<SharedRead> few;
    VectorClock many; // count per thread, once there are too many to search
  };
  bool written(const Cell &cell) const { return cell.writeClock >= clocks.blockStart(); }
  bool wasRead(const Cell &cell) const { return cell.readClock >= clocks.blockStart(); }
  std::string checkRead(const Cell &cell, uint64_t offset, uint32_t thread, Kind kind) const;
  std::string checkWrite(const Cell &cell, uint64_t offset, uint32_t thread, Kind kind) const;
  void noteRead(Cell &cell, uint32_t thread, Kind kind);
  std::string conflict(uint64_t offset, uint32_t thread, Kind kind, uint32_t other, Kind otherKind,
                       bool otherWrites) const;

  const Clocks &clocks;
  std::vector<Cell> cells;
  std::vector<ReadSet> readSets;
  uint32_t numReadSets = 0;
  SharedRead lastUnfenced = {};
};

} // namespace lowbit::emulator

#endif // LOWBIT_LIB_EMULATOR_SHAREDSHADOW_H
