//===- Pack.cpp - two 4-bit values in a byte --------------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Pack.h"

namespace lowbit {

void packNibbles(const int8_t *values, int64_t count, uint8_t *packed) {
  for (int64_t i = 0; i + 1 < count; i += 2)
    packed[i / 2] = uint8_t((values[i] & 15) | (values[i + 1] & 15) << 4);
  if (count % 2 != 0)
    packed[count / 2] = uint8_t(values[count - 1] & 15);
}

void unpackNibbles(const uint8_t *packed, int64_t count, bool isSigned, int8_t *values) {
  for (int64_t i = 0; i < count; ++i) {
    int nibble = i % 2 == 0 ? packed[i / 2] & 15 : packed[i / 2] >> 4;
    // Flipping the sign bit and subtracting it again extends it.
    values[i] = int8_t(isSigned ? (nibble ^ 8) - 8 : nibble);
  }
}

} // namespace lowbit
