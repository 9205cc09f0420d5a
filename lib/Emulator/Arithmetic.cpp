//===- Arithmetic.cpp - instructions of one thread on numbers ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Instructions.h"
#include <cmath>

using namespace lowbit;

uint32_t emulator::lop3(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
  uint32_t result = 0;
  for (uint32_t entry = 0; entry < 8; ++entry)
    if (table >> entry & 1)
      result |= (entry & 4 ? a : ~a) & (entry & 2 ? b : ~b) & (entry & 1 ? c : ~c);
  return result;
}

uint32_t emulator::permute(uint32_t a, uint32_t b, uint32_t selector) {
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

uint32_t emulator::dot4(uint32_t a, uint32_t b, uint32_t c, uint32_t signs) {
  for (uint32_t i = 0; i < 4; ++i)
    c += uint32_t(byteOf(a, i, signs & LOWBIT_EMU_UNSIGNED_A) *
                  byteOf(b, i, signs & LOWBIT_EMU_UNSIGNED_B));
  return c;
}

int64_t emulator::roundToInt(double value, uint32_t rounding, uint32_t bits, uint32_t isUnsigned) {
  if (std::isnan(value))
    return 0;
  switch (rounding) {
  case LOWBIT_EMU_ROUND_NEAREST_EVEN:
    value = std::nearbyint(value);
    break;
  case LOWBIT_EMU_ROUND_DOWN:
    value = std::floor(value);
    break;
  case LOWBIT_EMU_ROUND_UP:
    value = std::ceil(value);
    break;
  default:
    value = std::trunc(value);
  }
  double span = std::ldexp(1.0, int(bits) - (isUnsigned ? 0 : 1)); // One above the largest.
  uint64_t largest = (isUnsigned ? ~uint64_t(0) >> (64 - bits) : ~uint64_t(0) >> (65 - bits));
  if (value >= span)
    return static_cast<int64_t>(largest);
  if (isUnsigned)
    return value <= 0 ? 0 : static_cast<int64_t>(static_cast<uint64_t>(value));
  return value <= -span ? -static_cast<int64_t>(largest) - 1 : static_cast<int64_t>(value);
}

float emulator::approximate(float value, uint32_t which) {
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
