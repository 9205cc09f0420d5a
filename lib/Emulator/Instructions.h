//===- Instructions.h - what device instructions do ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// These act on the launch that the calling thread is in (Grid::current). See Table.h for what they
// take and give.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EMULATOR_INSTRUCTIONS_H
#define LOWBIT_LIB_EMULATOR_INSTRUCTIONS_H

#include "lowbit/Emulator/Table.h"

namespace lowbit::emulator {

const lowbit_emu_table_t &instructionTable();

/// What lanes of a warp meet at (Grid::meet); the bits above 8 hold the instruction's variant.
enum Code : uint32_t {
  kWarpBarrier = 1,
  kLoadMatrix,
  kStoreMatrix,
  kMmaInt8,
  kMmaHalf,
  kShuffle,
  kVote,
  kMatch,
  kReduce,
  kElect,
  kWarpgroupFence,
  kWarpgroupCommit,
  kWarpgroupWait,
  kWarpgroupMultiply
};

void loadMatrix(uint32_t *result, const void *row, uint32_t count, uint32_t transposed);
void storeMatrix(const uint32_t *words, void *row, uint32_t count, uint32_t transposed);
void mmaInt8(uint32_t *result, const uint32_t *operands, uint32_t signs);
void mmaHalf(uint32_t *result, const uint32_t *operands, uint32_t kind);

uint32_t shuffle(uint32_t mask, uint32_t value, uint32_t operand, uint32_t control, uint32_t kind,
                 uint32_t *within);
uint32_t vote(uint32_t mask, uint32_t predicate, uint32_t kind);
uint32_t match(uint32_t mask, uint64_t value, uint32_t all);
uint32_t reduce(uint32_t mask, uint32_t value, uint32_t kind);
uint32_t elect(uint32_t mask, uint32_t *leader);

void initObject(void *object, uint32_t count);
void invalidateObject(void *object);
uint64_t arriveAtObject(void *object, uint32_t count, uint32_t bytes);
void expectAtObject(void *object, uint32_t bytes);
uint32_t waitForObject(void *object, uint64_t phase, uint32_t kind);

void loadBulk(void *shared, const void *global, uint32_t bytes, void *object);
void storeBulk(void *global, const void *shared, uint32_t bytes);
void loadTensor(void *shared, const void *map, const uint32_t *at, uint32_t rank, void *object);
void storeTensor(const uint32_t *at, const void *map, const void *shared, uint32_t rank);
void commitBulk();
void waitBulk(uint32_t pending, uint32_t onlyReads);

void fenceWarpgroup();
void commitWarpgroup();
void waitWarpgroup(uint32_t pending);
uint32_t multiplyWarpgroup(uint32_t *sums, const uint32_t *a, uint64_t descriptorA,
                           uint64_t descriptorB, uint32_t shape);
void useWarpgroup(uint32_t ticket);

uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, uint32_t table);
uint32_t permute(uint32_t a, uint32_t b, uint32_t selector);
uint32_t dot4(uint32_t a, uint32_t b, uint32_t c, uint32_t signs);
int64_t roundToInt(double value, uint32_t rounding, uint32_t bits, uint32_t isUnsigned);
float approximate(float value, uint32_t which);

float halfToFloat(uint16_t bits);
float bfloatToFloat(uint16_t bits);
/// Byte `index` of a word, extended.
inline int32_t byteOf(uint32_t word, uint32_t index, bool isUnsigned) {
  auto byte = static_cast<uint8_t>(word >> (8 * index));
  return isUnsigned ? int32_t(byte) : int32_t(static_cast<int8_t>(byte));
}

} // namespace lowbit::emulator

#endif // LOWBIT_LIB_EMULATOR_INSTRUCTIONS_H
