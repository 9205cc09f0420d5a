//===- BankConflicts.h - how a warp's accesses fall on the banks ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Shared memory has 32 banks of 4 bytes. A warp's access goes through in wavefronts of at most 128
// bytes: all lanes at once for words, half of them for 8 bytes, a quarter for 16. A wavefront takes
// as many turns as its fullest bank has distinct words.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EMULATOR_BANKCONFLICTS_H
#define LOWBIT_LIB_EMULATOR_BANKCONFLICTS_H

#include "lowbit-c/Emulator.h"
#include <cstdint>
#include <vector>

namespace lowbit::emulator {

struct LaneAccess {
  uint64_t offset;
  uint32_t lane, bytes;
};

/// Adds one instruction of a warp; `lanes` in ascending order.
void countAccess(lowbit_emu_bank_statistics &statistics, const std::vector<LaneAccess> &lanes);

/// Lanes come to an access one after the other here; this puts together what is one instruction of
/// their warp. Between two points where the lanes meet, the n-th execution of an instruction by one
/// lane belongs to the n-th by the others.
class AccessLog {
public:
  void add(const void *site, lowbit_emu_bank_statistics *statistics, LaneAccess access) {
    entries.push_back({site, entries.size(), statistics, access});
    if (entries.size() >= 1 << 16)
      flush();
  }
  /// All lanes have met.
  void flush();

private:
  struct Entry {
    const void *site;
    size_t number;
    lowbit_emu_bank_statistics *statistics;
    LaneAccess access;
  };
  std::vector<Entry> entries;
};

} // namespace lowbit::emulator

#endif // LOWBIT_LIB_EMULATOR_BANKCONFLICTS_H
