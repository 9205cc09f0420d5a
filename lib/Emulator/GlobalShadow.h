//===- GlobalShadow.h - who last touched each byte that a launch may write ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Blocks run one after the other here, and in any order on the device. Two of them may touch the
// same byte only where no one writes, both write the same value, or one has learnt of the other's
// release through an atomic.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EMULATOR_GLOBALSHADOW_H
#define LOWBIT_LIB_EMULATOR_GLOBALSHADOW_H

#include "SharedShadow.h"
#include <map>
#include <memory>
#include <unordered_map>

namespace lowbit::emulator {

class GlobalShadow {
public:
  explicit GlobalShadow(Clocks &clocks) : clocks(clocks) {}
  void beginBlock(uint32_t number) {
    block = number;
    acquired.clear();
    fences.clear();
  }

  std::string read(const char *address, uint64_t bytes, uint32_t thread);
  /// The store itself follows; verify after it.
  std::string write(const char *address, uint64_t bytes, uint32_t thread);
  std::string atomic(const char *address, uint64_t bytes, uint32_t thread, bool ordered);
  /// membar.gl and wider.
  void fence(uint32_t thread) { fences[thread] = clocks.release(thread); }

  /// Whether a store over another block's bytes is waiting to be seen, and what is wrong with it.
  bool mustVerify() const { return !suspects.empty(); }
  std::string verify();

private:
  static constexpr uint64_t kPage = 1024;
  struct Cell {
    uint32_t writeBlock = 0, writeClock = 0; // blocks are numbered from 1
    uint32_t readBlock = 0, readClock = 0;
    uint16_t writer = 0, reader = 0;
    Kind writeKind = Kind::Store;
    bool manyBlocksRead = false;
  };
  struct Page {
    Cell cells[kPage];
  };
  struct Acquired {
    uint32_t thread, when;
    VectorClock clock;
  };
  struct Suspect {
    const char *address;
    char before;
    std::string message;
  };

  Cell &cell(const char *address);
  bool knows(uint32_t thread, uint32_t otherBlock, uint32_t other, uint32_t clock) const;
  std::string conflict(const char *address, uint32_t thread, const char *does, uint32_t otherBlock,
                       uint32_t other, const char *did) const;
  std::string checkReaders(const Cell &cell, const char *address, uint32_t thread) const;

  Clocks &clocks;
  uint32_t block = 0;
  std::unordered_map<uint64_t, std::unique_ptr<Page>> pages;
  uint64_t lastNumber = ~uint64_t(0);
  Page *lastPage = nullptr;
  // What each atomic's location publishes: per block, what its releasing thread knew.
  std::unordered_map<const char *, std::map<uint32_t, VectorClock>> releases;
  std::unordered_map<uint32_t, std::vector<Acquired>> acquired; // by block
  std::unordered_map<uint32_t, VectorClock> fences;             // by thread
  std::vector<Suspect> suspects;
};

} // namespace lowbit::emulator

#endif // LOWBIT_LIB_EMULATOR_GLOBALSHADOW_H
