//===- Matrices.cpp - matrix fragments and their multiplication ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Fragments, with g = lane / 4 and t = lane % 4. An 8 × 8 matrix of 16-bit elements: row g, columns
// 2t and 2t + 1. Operands of mma are such matrices: A's words are its upper and lower half for the
// first 16 bytes of k, then for the next; B's words are column g (as a row) likewise. Results 2i +
// j are row g + 8i, column 2t + j.
//
//===----------------------------------------------------------------------===//
#include "Grid.h"
#include "Instructions.h"
#include <cstring>

using namespace lowbit;
using namespace lowbit::emulator;

static void countRows(lowbit_emu_bank_statistics &statistics, const Meeting &meeting,
                      uint32_t count) {
  auto *start = static_cast<const char *>(Grid::current().sharedMemory());
  std::vector<LaneAccess> rows;
  for (uint32_t i = 0; i < 8 * count; ++i)
    rows.push_back({uint64_t(static_cast<const char *>(meeting.pointers[i]) - start), i, 16});
  countAccess(statistics, rows);
}

/// Element (row, column) of matrix `matrix` lies here.
static char *elementOf(const Meeting &meeting, uint32_t matrix, uint32_t row, uint32_t column) {
  return static_cast<char *>(meeting.pointers[matrix * 8 + row]) + 2 * column;
}

void emulator::loadMatrix(uint32_t *result, const void *row, uint32_t count, uint32_t transposed) {
  Grid &grid = Grid::current();
  if (grid.lane() < 8 * count) {
    if (reinterpret_cast<uintptr_t>(row) % 16)
      grid.fail("ldmatrix of a row that is not aligned to 16 bytes");
    grid.noteSharedRead(grid.checkShared(row, 16), 16, Kind::LoadMatrix);
  }
  const Meeting &all =
      grid.meet(kLoadMatrix | count << 8 | transposed << 16, ~0u, nullptr, 0,
                const_cast<void *>(row), [](Meeting &meeting) {
                  uint32_t count = meeting.code >> 8 & 255, transposed = meeting.code >> 16;
                  countRows(Grid::current().counts.matrix_loads, meeting, count);
                  for (uint32_t lane = 0; lane < kLanes; ++lane)
                    for (uint32_t matrix = 0; matrix < count; ++matrix) {
                      uint32_t r = lane / 4, c = lane % 4 * 2;
                      uint16_t pair[2];
                      for (uint32_t i = 0; i < 2; ++i)
                        std::memcpy(&pair[i],
                                    transposed ? elementOf(meeting, matrix, c + i, r)
                                               : elementOf(meeting, matrix, r, c + i),
                                    2);
                      meeting.results[lane][matrix] = pair[0] | uint32_t(pair[1]) << 16;
                    }
                });
  std::memcpy(result, all.results[grid.lane()], 4 * count);
}

void emulator::storeMatrix(const uint32_t *words, void *row, uint32_t count, uint32_t transposed) {
  Grid &grid = Grid::current();
  if (grid.lane() < 8 * count) {
    if (reinterpret_cast<uintptr_t>(row) % 16)
      grid.fail("stmatrix of a row that is not aligned to 16 bytes");
    grid.noteSharedWrite(grid.checkShared(row, 16), 16, Kind::StoreMatrix);
  }
  grid.meet(kStoreMatrix | count << 8 | transposed << 16, ~0u, words, count, row,
            [](Meeting &meeting) {
              uint32_t count = meeting.code >> 8 & 255, transposed = meeting.code >> 16;
              countRows(Grid::current().counts.matrix_stores, meeting, count);
              for (uint32_t lane = 0; lane < kLanes; ++lane)
                for (uint32_t matrix = 0; matrix < count; ++matrix)
                  for (uint32_t i = 0; i < 2; ++i) {
                    uint32_t r = lane / 4, c = lane % 4 * 2 + i;
                    auto half = static_cast<uint16_t>(meeting.words[lane][matrix] >> (16 * i));
                    std::memcpy(transposed ? elementOf(meeting, matrix, c, r)
                                           : elementOf(meeting, matrix, r, c),
                                &half, 2);
                  }
            });
}

void emulator::mmaInt8(uint32_t *result, const uint32_t *operands, uint32_t signs) {
  Grid &grid = Grid::current();
  const Meeting &all =
      grid.meet(kMmaInt8 | signs << 8, ~0u, operands, 10, nullptr, [](Meeting &meeting) {
        uint32_t signs = meeting.code >> 8;
        int16_t a[16][32], b[8][32];
        for (uint32_t lane = 0; lane < kLanes; ++lane)
          for (uint32_t word = 0; word < 6; ++word)
            for (uint32_t i = 0; i < 4; ++i) {
              bool isA = word < 4;
              uint32_t k = lane % 4 * 4 + i + (isA ? word / 2 : word - 4) * 16;
              auto value = static_cast<int16_t>(
                  byteOf(meeting.words[lane][word], i,
                         signs & (isA ? LOWBIT_EMU_UNSIGNED_A : LOWBIT_EMU_UNSIGNED_B)));
              (isA ? a[lane / 4 + word % 2 * 8] : b[lane / 4])[k] = value;
            }
        for (uint32_t row = 0; row < 16; ++row)
          for (uint32_t column = 0; column < 8; ++column) {
            int32_t sum = 0; // Below 2 ** 21.
            for (uint32_t k = 0; k < 32; ++k)
              sum += int32_t(a[row][k]) * b[column][k];
            uint32_t lane = row % 8 * 4 + column / 2, i = row / 8 * 2 + column % 2;
            meeting.results[lane][i] = meeting.words[lane][6 + i] + uint32_t(sum);
          }
      });
  std::memcpy(result, all.results[grid.lane()], 16);
}

float emulator::halfToFloat(uint16_t bits) {
  _Float16 value;
  std::memcpy(&value, &bits, 2);
  return static_cast<float>(value);
}

static uint16_t floatToHalf(float value) {
  auto half = static_cast<_Float16>(value);
  uint16_t bits;
  std::memcpy(&bits, &half, 2);
  return bits;
}

float emulator::bfloatToFloat(uint16_t bits) {
  uint32_t wide = uint32_t(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

static void multiplyHalf(Meeting &meeting) {
  uint32_t kind = meeting.code >> 8, depth = kind & LOWBIT_EMU_MMA_K8 ? 8 : 16;
  uint32_t wordsA = depth / 4, wordsB = depth / 8;
  float a[16][16], b[8][16];
  for (uint32_t lane = 0; lane < kLanes; ++lane)
    for (uint32_t word = 0; word < wordsA + wordsB; ++word)
      for (uint32_t i = 0; i < 2; ++i) {
        bool isA = word < wordsA;
        uint32_t k = lane % 4 * 2 + i + (isA ? word / 2 : word - wordsA) * 8;
        auto half = static_cast<uint16_t>(meeting.words[lane][word] >> (16 * i));
        (isA ? a[lane / 4 + word % 2 * 8] : b[lane / 4])[k] =
            kind & LOWBIT_EMU_MMA_BF16 ? bfloatToFloat(half) : halfToFloat(half);
      }
  for (uint32_t row = 0; row < 16; ++row)
    for (uint32_t column = 0; column < 8; ++column) {
      uint32_t lane = row % 8 * 4 + column / 2, i = row / 8 * 2 + column % 2;
      const uint32_t *sums = meeting.words[lane] + wordsA + wordsB;
      float sum;
      if (kind & LOWBIT_EMU_MMA_F16_SUM)
        sum = halfToFloat(static_cast<uint16_t>(sums[i / 2] >> (16 * (i % 2))));
      else
        std::memcpy(&sum, &sums[i], 4);
      for (uint32_t k = 0; k < depth; ++k)
        sum += a[row][k] * b[column][k];
      if (kind & LOWBIT_EMU_MMA_F16_SUM) {
        uint32_t &pair = meeting.results[lane][i / 2];
        uint32_t half = floatToHalf(sum);
        pair = i % 2 ? (pair & 0xffff) | half << 16 : half;
      } else {
        std::memcpy(&meeting.results[lane][i], &sum, 4);
      }
    }
}

void emulator::mmaHalf(uint32_t *result, const uint32_t *operands, uint32_t kind) {
  Grid &grid = Grid::current();
  uint32_t words = kind & LOWBIT_EMU_MMA_K8 ? 3 : 6, sums = kind & LOWBIT_EMU_MMA_F16_SUM ? 2 : 4;
  const Meeting &all =
      grid.meet(kMmaHalf | kind << 8, ~0u, operands, words + sums, nullptr, multiplyHalf);
  std::memcpy(result, all.results[grid.lane()], 4 * sums);
}
