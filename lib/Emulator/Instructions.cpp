//===- Instructions.cpp - what device instructions do ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Instructions.h"
#include "Grid.h"
#include <cmath>
#include <cstring>

using namespace lowbit::emulator;

//===----------------------------------------------------------------------===//
// Asynchronous copies
//===----------------------------------------------------------------------===//

static void copyAsync(void *target, const void *source, uint32_t bytes, uint32_t valid) {
  Grid &grid = Grid::current();
  grid.check(target, bytes, LOWBIT_EMU_SHARED_WRITE);
  if (valid)
    grid.check(source, valid, LOWBIT_EMU_GLOBAL_READ);
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
  auto &groups = Grid::current().thread().groups;
  while (groups.size() > pending) {
    for (const PendingCopy &copy : groups.front()) {
      std::memset(copy.target, 0, copy.bytes);
      std::memcpy(copy.target, copy.source, copy.valid);
    }
    groups.erase(groups.begin());
  }
}

//===----------------------------------------------------------------------===//
// Instructions of a whole warp
//===----------------------------------------------------------------------===//

namespace {
enum Code : uint32_t { kLoadMatrix = 1, kMmaInt8, kMmaHalf, kShuffle, kWarpBarrier };
} // namespace

static void loadMatrix(uint32_t *result, const void *row, uint32_t count, uint32_t transposed) {
  Grid &grid = Grid::current();
  uint32_t lane = grid.lane();
  if (lane < 8 * count)
    grid.check(row, 16, LOWBIT_EMU_SHARED_READ);
  const Meeting &all = grid.meet(kLoadMatrix + 16 * count + 256 * transposed, nullptr, 0, row);
  for (uint32_t matrix = 0; matrix < count; ++matrix) {
    auto half = [&](uint32_t r, uint32_t c) {
      uint16_t value;
      std::memcpy(&value, static_cast<const char *>(all.pointers[matrix * 8 + r]) + 2 * c, 2);
      return uint32_t(value);
    };
    uint32_t r = lane / 4, c = lane % 4 * 2;
    result[matrix] =
        transposed ? half(c, r) | half(c + 1, r) << 16 : half(r, c) | half(r, c + 1) << 16;
  }
}

static int32_t byteOf(uint32_t word, uint32_t index, bool isUnsigned) {
  auto byte = static_cast<uint8_t>(word >> (8 * index));
  return isUnsigned ? int32_t(byte) : int32_t(static_cast<int8_t>(byte));
}

// Fragments, g = lane / 4, t = lane % 4. A: words 0–3 are rows g, g + 8, g, g + 8, bytes of k 4t …
// 4t + 3, the last two 16 further. B: words 4, 5 are column g, k as A's. C: results 2i + j are row
// g + 8i, column 2t + j.
static void mmaInt8(uint32_t *result, const uint32_t *operands, uint32_t signs) {
  Grid &grid = Grid::current();
  uint32_t lane = grid.lane(), g = lane / 4, t = lane % 4;
  const Meeting &all = grid.meet(kMmaInt8 + 16 * signs, operands, 6, nullptr);
  for (uint32_t i = 0; i < 4; ++i) {
    uint32_t row = g + i / 2 * 8, column = 2 * t + i % 2, sum = operands[6 + i];
    for (uint32_t k = 0; k < 32; ++k) {
      uint32_t a = all.words[row % 8 * 4 + k % 16 / 4][row / 8 + k / 16 * 2];
      uint32_t b = all.words[column * 4 + k % 16 / 4][4 + k / 16];
      sum += uint32_t(byteOf(a, k % 4, signs & LOWBIT_EMU_UNSIGNED_A) *
                      byteOf(b, k % 4, signs & LOWBIT_EMU_UNSIGNED_B));
    }
    result[i] = sum;
  }
}

static float halfOf(uint32_t word, uint32_t index) {
  auto bits = static_cast<uint16_t>(word >> (16 * index));
  _Float16 value;
  std::memcpy(&value, &bits, 2);
  return static_cast<float>(value);
}

static void mmaHalf(uint32_t *result, const uint32_t *operands) {
  Grid &grid = Grid::current();
  uint32_t lane = grid.lane(), g = lane / 4, t = lane % 4;
  const Meeting &all = grid.meet(kMmaHalf, operands, 6, nullptr);
  for (uint32_t i = 0; i < 4; ++i) {
    uint32_t row = g + i / 2 * 8, column = 2 * t + i % 2;
    float sum;
    std::memcpy(&sum, &operands[6 + i], 4);
    for (uint32_t k = 0; k < 16; ++k) {
      uint32_t a = all.words[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
      uint32_t b = all.words[column * 4 + k % 8 / 2][4 + k / 8];
      sum += halfOf(a, k % 2) * halfOf(b, k % 2);
    }
    std::memcpy(&result[i], &sum, 4);
  }
}

static void warpBarrier(uint32_t) { Grid::current().meet(kWarpBarrier, nullptr, 0, nullptr); }

static uint32_t shuffle(uint32_t, uint32_t value, uint32_t operand, uint32_t control,
                        uint32_t kind) {
  Grid &grid = Grid::current();
  uint32_t lane = grid.lane();
  const Meeting &all = grid.meet(kShuffle + 16 * kind, &value, 1, nullptr);
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
  return all.words[inside ? source : lane][0];
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

static uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
  uint32_t result = 0;
  for (uint32_t entry = 0; entry < 8; ++entry)
    if (table >> entry & 1)
      result |= (entry & 4 ? a : ~a) & (entry & 2 ? b : ~b) & (entry & 1 ? c : ~c);
  return result;
}

static uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
  uint64_t bytes = uint64_t(b) << 32 | a;
  uint32_t result = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    uint32_t choice = selector >> (4 * i) & 15;
    auto byte = static_cast<uint8_t>(bytes >> (8 * (choice & 7)));
    if (choice & 8) // Replicate the sign.
      byte = byte & 0x80 ? 0xff : 0;
    result |= uint32_t(byte) << (8 * i);
  }
  return result;
}

static uint32_t dot4(uint32_t a, uint32_t b, uint32_t c, uint32_t signs) {
  for (uint32_t i = 0; i < 4; ++i)
    c += uint32_t(byteOf(a, i, signs & LOWBIT_EMU_UNSIGNED_A) *
                  byteOf(b, i, signs & LOWBIT_EMU_UNSIGNED_B));
  return c;
}

/// cvt.rni.s32.f32: ties to even, saturating, NaN to 0.
static int32_t roundToInt(float value) {
  if (std::isnan(value))
    return 0;
  if (value >= 2147483648.0f)
    return INT32_MAX;
  if (value <= -2147483648.0f)
    return INT32_MIN;
  return static_cast<int32_t>(std::nearbyint(value));
}

static float function(float value, uint32_t which) {
  switch (which) {
  case LOWBIT_EMU_EX2:
    return std::exp2(value);
  case LOWBIT_EMU_LG2:
    return std::log2(value);
  case LOWBIT_EMU_RCP:
    return 1.0f / value;
  case LOWBIT_EMU_RSQRT:
    return 1.0f / std::sqrt(value);
  case LOWBIT_EMU_SQRT:
    return std::sqrt(value);
  case LOWBIT_EMU_SIN:
    return std::sin(value);
  case LOWBIT_EMU_COS:
    return std::cos(value);
  default:
    return std::tanh(value);
  }
}

const lowbit_emu_table_t &lowbit::emulator::instructionTable() {
  static const lowbit_emu_table_t table = {
      LOWBIT_EMU_ABI,
      [](uint32_t which) { return Grid::current().specialRegister(which); },
      [] { return Grid::current().sharedMemory(); },
      [](const void *address, uint64_t bytes, uint32_t access) {
        Grid::current().check(address, bytes, access);
      },
      copyAsync,
      commitGroup,
      waitGroup,
      [](uint32_t id) { Grid::current().barrier(id); },
      warpBarrier,
      loadMatrix,
      mmaInt8,
      mmaHalf,
      shuffle,
      lop3,
      permute,
      dot4,
      roundToInt,
      function,
      [] { Grid::current().fail("the kernel stopped itself: it found its input invalid"); },
  };
  return table;
}
