//===- WarpInstructions.cpp - what lanes of a warp tell each other ---*- C++ -*-===//
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

uint32_t emulator::shuffle(uint32_t mask, uint32_t value, uint32_t operand, uint32_t control,
                           uint32_t kind, uint32_t *within) {
  Grid &grid = Grid::current();
  uint32_t lane = grid.lane();
  const Meeting &all = grid.meet(kShuffle | kind << 8, mask, &value, 1, nullptr);
  uint32_t segment = control >> 8 & 31, clamp = control & 31;
  uint32_t last = (lane & segment) | (clamp & ~segment), first = lane & segment;
  uint32_t source = lane;
  bool inside = true;
  switch (kind) {
  case LOWBIT_EMU_SHUFFLE_UP:
    inside = int32_t(lane - operand) >= int32_t(last);
    source = lane - operand;
    break;
  case LOWBIT_EMU_SHUFFLE_DOWN:
    source = lane + operand;
    inside = source <= last;
    break;
  case LOWBIT_EMU_SHUFFLE_BFLY:
    source = lane ^ operand;
    inside = source <= last;
    break;
  default:
    source = first | (operand & ~segment & 31);
    inside = source <= last;
  }
  if (within)
    *within = inside;
  if (!inside)
    return value;
  // What a lane that takes no part holds is unknown.
  return all.mask >> source & 1 ? all.words[source][0] : 0x7b7b7b7b;
}

uint32_t emulator::vote(uint32_t mask, uint32_t predicate, uint32_t kind) {
  const Meeting &all = Grid::current().meet(kVote | kind << 8, mask, &predicate, 1, nullptr);
  uint32_t ballot = 0;
  for (uint32_t i = 0; i < kLanes; ++i)
    if (all.mask >> i & 1 && all.words[i][0])
      ballot |= 1u << i;
  switch (kind) {
  case LOWBIT_EMU_VOTE_BALLOT:
    return ballot;
  case LOWBIT_EMU_VOTE_ALL:
    return ballot == all.mask;
  case LOWBIT_EMU_VOTE_ANY:
    return ballot != 0;
  default:
    return ballot == 0 || ballot == all.mask;
  }
}

uint32_t emulator::match(uint32_t mask, uint64_t value, uint32_t allEqual) {
  uint32_t words[2] = {static_cast<uint32_t>(value), static_cast<uint32_t>(value >> 32)};
  const Meeting &all = Grid::current().meet(kMatch | allEqual << 8, mask, words, 2, nullptr);
  uint32_t same = 0;
  for (uint32_t i = 0; i < kLanes; ++i)
    if (all.mask >> i & 1 && !std::memcmp(all.words[i], words, sizeof words))
      same |= 1u << i;
  return allEqual && same != all.mask ? 0 : same;
}

uint32_t emulator::reduce(uint32_t mask, uint32_t value, uint32_t kind) {
  const Meeting &all = Grid::current().meet(kReduce | kind << 8, mask, &value, 1, nullptr);
  bool first = true;
  uint32_t result = 0;
  for (uint32_t i = 0; i < kLanes; ++i) {
    if (!(all.mask >> i & 1))
      continue;
    uint32_t word = all.words[i][0];
    if (first) {
      result = word;
      first = false;
      continue;
    }
    switch (kind) {
    case LOWBIT_EMU_REDUCE_ADD:
      result += word;
      break;
    case LOWBIT_EMU_REDUCE_MIN:
      result = int32_t(word) < int32_t(result) ? word : result;
      break;
    case LOWBIT_EMU_REDUCE_MAX:
      result = int32_t(word) > int32_t(result) ? word : result;
      break;
    case LOWBIT_EMU_REDUCE_UMIN:
      result = word < result ? word : result;
      break;
    case LOWBIT_EMU_REDUCE_UMAX:
      result = word > result ? word : result;
      break;
    case LOWBIT_EMU_REDUCE_AND:
      result &= word;
      break;
    case LOWBIT_EMU_REDUCE_OR:
      result |= word;
      break;
    default:
      result ^= word;
    }
  }
  return result;
}

uint32_t emulator::elect(uint32_t mask, uint32_t *leader) {
  Grid &grid = Grid::current();
  const Meeting &all = grid.meet(kElect, mask, nullptr, 0, nullptr);
  *leader = static_cast<uint32_t>(__builtin_ctz(all.mask));
  return grid.lane() == *leader;
}
