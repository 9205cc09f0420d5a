//===- Warpgroup.cpp - wgmma ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Each warp of a warpgroup multiplies its 16 of the 64 rows. Values are computed when the
// instruction is issued; what makes it asynchronous is that until the wait nobody may write its
// operands in shared memory or use its sums.
//
//===----------------------------------------------------------------------===//
#include "Grid.h"
#include "Instructions.h"
#include <cstring>

using namespace lowbit;
using namespace lowbit::emulator;

namespace {
/// A matrix descriptor (PTX ISA, "Matrix-descriptor format").
struct Operand {
  uint64_t start, leading, stride;
  uint32_t rowBytes; // of the swizzle; 16 without one
  bool transposed;

  Operand(uint64_t descriptor, bool transposed) : transposed(transposed) {
    start = (descriptor & 0x3fff) << 4;
    leading = (descriptor >> 16 & 0x3fff) << 4;
    stride = (descriptor >> 32 & 0x3fff) << 4;
    rowBytes = 16u << (4 - (descriptor >> 62)) % 4;
  }
  /// Where the 16 bytes lie that hold element `row` (of M or N), byte `k` of the depth; for
  /// transposed operands, byte `row` of the row, element `k` of the depth.
  uint64_t chunk(uint64_t row, uint64_t k) const {
    uint64_t at = start;
    uint64_t along = transposed ? row : k, across = transposed ? k : row;
    if (rowBytes == 16)
      at += across % 8 * 16 + (transposed ? along / 16 * stride + across / 8 * leading
                                          : along / 16 * leading + across / 8 * stride);
    else
      at += across % 8 * rowBytes + across / 8 * stride + along / rowBytes * leading +
            along % rowBytes / 16 * 16;
    return swizzled(at, rowBytes == 16 ? 0 : static_cast<uint32_t>(__builtin_ctz(rowBytes)));
  }
};
} // namespace

/// Notes that `count` rows from `first` are being read, chunk by chunk.
static void readOperand(Grid &grid, const Operand &operand, uint64_t first, uint64_t count,
                        uint64_t elementBytes, uint64_t depth) {
  auto *start = static_cast<char *>(grid.sharedMemory());
  auto note = [&](uint64_t row, uint64_t k) {
    uint64_t offset = operand.chunk(row, k);
    grid.checkShared(start + offset, 16);
    if (!grid.detectsRaces())
      return;
    if (const SharedRead *writer = grid.sharedShadow.unfenced(offset, 16, grid.proxyFences))
      grid.fail("wgmma reads what thread " + std::to_string(writer->thread) + " wrote with " +
                nameOf(writer->kind) + " and no fence.proxy.async followed");
    grid.failIf(grid.sharedShadow.beginRead(offset, 16, grid.running(), Kind::WarpgroupMma));
    grid.warp().open.operands.push_back({offset, 16});
  };
  if (operand.transposed)
    for (uint64_t k = 0; k < depth; ++k)
      for (uint64_t row = first * elementBytes; row < (first + count) * elementBytes; row += 16)
        note(row, k);
  else
    for (uint64_t row = first; row < first + count; ++row)
      for (uint64_t k = 0; k < depth * elementBytes; k += 16)
        note(row, k);
}

static uint16_t halfAt(const char *start, const Operand &operand, uint64_t row, uint64_t k) {
  uint64_t along = 2 * (operand.transposed ? row : k);
  uint64_t offset = operand.transposed ? operand.chunk(along, k) : operand.chunk(row, along);
  uint16_t bits;
  std::memcpy(&bits, start + offset + along % 16, 2);
  return bits;
}

static void multiplyBytes(Meeting &meeting, uint32_t n, uint32_t shape, uint32_t firstRow,
                          const Operand &a, const Operand &b, const char *start) {
  static thread_local int16_t matrixA[16][32], matrixB[256][32];
  auto extend = [](uint8_t byte, bool isUnsigned) {
    return static_cast<int16_t>(isUnsigned ? int(byte) : int(static_cast<int8_t>(byte)));
  };
  bool unsignedA = shape & LOWBIT_EMU_WGMMA_UNSIGNED_A;
  for (uint32_t row = 0; row < 16; ++row)
    for (uint32_t k = 0; k < 32; ++k)
      matrixA[row][k] =
          shape & LOWBIT_EMU_WGMMA_A_REGISTERS
              ? static_cast<int16_t>(
                    byteOf(meeting.words[row % 8 * 4 + k % 16 / 4][row / 8 + k / 16 * 2], k % 4,
                           unsignedA))
              : extend(static_cast<uint8_t>(start[a.chunk(firstRow + row, k) + k % 16]), unsignedA);
  for (uint32_t column = 0; column < n; ++column)
    for (uint32_t k = 0; k < 32; ++k)
      matrixB[column][k] = extend(static_cast<uint8_t>(start[b.chunk(column, k) + k % 16]),
                                  shape & LOWBIT_EMU_WGMMA_UNSIGNED_B);
  for (uint32_t row = 0; row < 16; ++row)
    for (uint32_t column = 0; column < n; ++column) {
      int32_t sum = 0;
      for (uint32_t k = 0; k < 32; ++k)
        sum += int32_t(matrixA[row][k]) * matrixB[column][k];
      uint32_t lane = row % 8 * 4 + column % 8 / 2;
      uint32_t &to = static_cast<uint32_t *>(
          meeting.pointers[lane])[column / 8 * 4 + row / 8 * 2 + column % 2];
      to = (shape & LOWBIT_EMU_WGMMA_ACCUMULATES ? to : 0) + uint32_t(sum);
    }
}

static void multiplyHalves(Meeting &meeting, uint32_t n, uint32_t shape, uint32_t firstRow,
                           const Operand &a, const Operand &b, const char *start) {
  static thread_local float matrixA[16][16], matrixB[256][16];
  bool bfloat = (shape & LOWBIT_EMU_WGMMA_KIND_MASK) == LOWBIT_EMU_WGMMA_BF16;
  auto extend = [&](uint16_t bits, bool negated) {
    float value = bfloat ? bfloatToFloat(bits) : halfToFloat(bits);
    return negated ? -value : value;
  };
  for (uint32_t row = 0; row < 16; ++row)
    for (uint32_t k = 0; k < 16; ++k) {
      uint16_t bits =
          shape & LOWBIT_EMU_WGMMA_A_REGISTERS
              ? static_cast<uint16_t>(meeting.words[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2] >>
                                      (16 * (k % 2)))
              : halfAt(start, a, firstRow + row, k);
      matrixA[row][k] = extend(bits, shape & LOWBIT_EMU_WGMMA_NEGATED_A);
    }
  for (uint32_t column = 0; column < n; ++column)
    for (uint32_t k = 0; k < 16; ++k)
      matrixB[column][k] = extend(halfAt(start, b, column, k), shape & LOWBIT_EMU_WGMMA_NEGATED_B);
  for (uint32_t row = 0; row < 16; ++row)
    for (uint32_t column = 0; column < n; ++column) {
      uint32_t lane = row % 8 * 4 + column % 8 / 2;
      uint32_t *to = static_cast<uint32_t *>(meeting.pointers[lane]) + column / 8 * 4 +
                     row / 8 * 2 + column % 2;
      float sum = 0;
      if (shape & LOWBIT_EMU_WGMMA_ACCUMULATES)
        std::memcpy(&sum, to, 4);
      for (uint32_t k = 0; k < 16; ++k)
        sum += matrixA[row][k] * matrixB[column][k];
      std::memcpy(to, &sum, 4);
    }
}

static void multiplyAll(Meeting &meeting) {
  Grid &grid = Grid::current();
  for (uint32_t lane = 1; lane < kLanes; ++lane)
    if (std::memcmp(&meeting.words[lane][4], &meeting.words[0][4], 5 * sizeof(uint32_t)))
      grid.fail("lanes of one warp give wgmma different descriptors");
  uint32_t shape = meeting.words[0][8], n = shape & 0xffff;
  uint64_t descriptors[2];
  std::memcpy(descriptors, &meeting.words[0][4], sizeof descriptors);
  bool bytes = (shape & LOWBIT_EMU_WGMMA_KIND_MASK) == LOWBIT_EMU_WGMMA_S8;
  uint32_t elementBytes = bytes ? 1 : 2, depth = 32 / elementBytes;
  uint32_t firstRow = grid.running() / kLanes % 4 * 16;
  Operand a(descriptors[0], shape & LOWBIT_EMU_WGMMA_TRANSPOSED_A),
      b(descriptors[1], shape & LOWBIT_EMU_WGMMA_TRANSPOSED_B);
  if (!(shape & LOWBIT_EMU_WGMMA_A_REGISTERS))
    readOperand(grid, a, firstRow, 16, elementBytes, depth);
  readOperand(grid, b, 0, n, elementBytes, depth);
  auto *start = static_cast<const char *>(grid.sharedMemory());
  (bytes ? multiplyBytes : multiplyHalves)(meeting, n, shape, firstRow, a, b, start);
  grid.warp().open.lastTicket = ++grid.warp().issued;
}

void emulator::fenceWarpgroup() {
  Grid::current().meet(kWarpgroupFence, ~0u, nullptr, 0, nullptr,
                       [](Meeting &) { Grid::current().warp().fenced = true; });
}

uint32_t emulator::multiplyWarpgroup(uint32_t *sums, const uint32_t *a, uint64_t descriptorA,
                                     uint64_t descriptorB, uint32_t shape) {
  Grid &grid = Grid::current();
  if (!grid.warp().fenced)
    grid.fail("wgmma.mma_async without wgmma.fence before it, or after the last wait");
  if (grid.numThreads() < grid.running() / 128 * 128 + 128)
    grid.fail("wgmma in a warpgroup of fewer than 128 threads");
  uint32_t words[9] = {};
  if (a)
    std::memcpy(words, a, 16);
  std::memcpy(words + 4, &descriptorA, 8);
  std::memcpy(words + 6, &descriptorB, 8);
  words[8] = shape;
  grid.meet(kWarpgroupMultiply, ~0u, words, 9, sums, multiplyAll);
  return grid.warp().issued;
}

void emulator::commitWarpgroup() {
  Grid::current().meet(kWarpgroupCommit, ~0u, nullptr, 0, nullptr, [](Meeting &) {
    Warp &warp = Grid::current().warp();
    warp.multiplies.push_back(std::move(warp.open));
    warp.open = PendingMultiply();
  });
}

void emulator::waitWarpgroup(uint32_t pending) {
  Grid::current().meet(
      kWarpgroupWait | pending << 8, ~0u, nullptr, 0, nullptr, [](Meeting &meeting) {
        Grid &grid = Grid::current();
        Warp &warp = grid.warp();
        uint32_t pending = meeting.code >> 8, engine = grid.clocks.copyEngine();
        bool any = false;
        while (warp.multiplies.size() > pending) {
          for (const Range &range : warp.multiplies.front().operands)
            grid.sharedShadow.endRead(range.offset, range.bytes, Kind::WarpgroupMma);
          warp.finished = std::max(warp.finished, warp.multiplies.front().lastTicket);
          warp.multiplies.erase(warp.multiplies.begin());
          any = true;
        }
        warp.fenced = false;
        if (!any)
          return;
        // Every lane knows now that these reads have ended.
        VectorClock reads(engine + 1, 0);
        reads[engine] = grid.clocks.advance(engine);
        uint32_t first = grid.running() / kLanes * kLanes;
        for (uint32_t i = 0; i < kLanes; ++i)
          grid.clocks.acquire(first + i, reads);
      });
}

void emulator::useWarpgroup(uint32_t ticket) {
  Grid &grid = Grid::current();
  if (ticket > grid.warp().finished)
    grid.fail("the sums of a wgmma are used before wgmma.wait_group");
}
