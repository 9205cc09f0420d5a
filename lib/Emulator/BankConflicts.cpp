//===- BankConflicts.cpp - how a warp's accesses fall on the banks ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "BankConflicts.h"
#include <algorithm>

using namespace lowbit::emulator;

void lowbit::emulator::countAccess(lowbit_emu_bank_statistics &statistics,
                                   const std::vector<LaneAccess> &lanes) {
  constexpr uint32_t kBanks = 32;
  uint32_t widest = 4;
  for (const LaneAccess &access : lanes)
    widest = std::max(widest, access.bytes);
  uint32_t lanesAtOnce = std::max(1u, 128 / widest);
  ++statistics.instructions;
  for (size_t first = 0; first < lanes.size();) {
    uint32_t wavefront = lanes[first].lane / lanesAtOnce;
    // The words of each bank, first and next at the same bank.
    uint32_t counts[kBanks] = {};
    uint64_t words[kBanks][kBanks];
    uint32_t ways = 1;
    size_t i = first;
    for (; i < lanes.size() && lanes[i].lane / lanesAtOnce == wavefront; ++i)
      for (uint64_t word = lanes[i].offset / 4; word <= (lanes[i].offset + lanes[i].bytes - 1) / 4;
           ++word) {
        uint32_t bank = word % kBanks;
        uint64_t *end = words[bank] + counts[bank];
        if (counts[bank] < kBanks && std::find(words[bank], end, word) == end)
          words[bank][counts[bank]++] = word;
        ways = std::max(ways, counts[bank]);
      }
    first = i;
    ++statistics.ideal;
    statistics.wavefronts += ways;
    statistics.worst_ways = std::max(statistics.worst_ways, ways);
  }
}

void AccessLog::flush() {
  if (entries.empty())
    return;
  std::sort(entries.begin(), entries.end(), [](const Entry &a, const Entry &b) {
    return a.site != b.site ? a.site < b.site : a.number < b.number;
  });
  std::vector<std::vector<LaneAccess>> instructions;
  for (size_t first = 0; first < entries.size();) {
    uint32_t executions[32] = {};
    instructions.clear();
    size_t i = first;
    for (; i < entries.size() && entries[i].site == entries[first].site; ++i) {
      uint32_t number = executions[entries[i].access.lane]++;
      if (number == instructions.size())
        instructions.emplace_back();
      instructions[number].push_back(entries[i].access);
    }
    for (std::vector<LaneAccess> &lanes : instructions) {
      std::sort(lanes.begin(), lanes.end(),
                [](const LaneAccess &a, const LaneAccess &b) { return a.lane < b.lane; });
      countAccess(*entries[first].statistics, lanes);
    }
    first = i;
  }
  entries.clear();
}
