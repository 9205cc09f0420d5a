//===- lowbit/Numerics/Pack.h - two 4-bit values in a byte ------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Element 2i is the low nibble of byte i, element 2i+1 the high one, as in ONNX
// INT4/UINT4 tensors. An odd count leaves the last high nibble 0. Kernel layouts
// are the targets' business; this is the linear storage form.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_PACK_H
#define LOWBIT_NUMERICS_PACK_H

#include <cstdint>

namespace lowbit {

/// Bytes that `count` 4-bit values take.
constexpr int64_t packedNibbleBytes(int64_t count) { return (count + 1) / 2; }

/// Packs the low four bits of each of `count` values, signed or unsigned, into
/// packedNibbleBytes(count) bytes.
void packNibbles(const int8_t *values, int64_t count, uint8_t *packed);

/// Unpacks `count` values; signed ones are sign-extended to [-8, 7], others are in [0, 15].
void unpackNibbles(const uint8_t *packed, int64_t count, bool isSigned, int8_t *values);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_PACK_H
