//===- PackWeights.h - weights in the order in which the CPU kernels read them ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CPU_PACKWEIGHTS_H
#define LOWBIT_LIB_TARGET_CPU_PACKWEIGHTS_H

#include "lowbit/Support/LLVM.h"
#include "llvm/ADT/ArrayRef.h"
#include <cstdint>
#include <vector>

namespace lowbit::cpu {

/// Row-major [n, runs, length] signed bytes to QGemm's layout (see QGemm.cpp) with blocks of 16 ·
/// nr columns; short runs and columns past n are zeros.
std::vector<int8_t> packQGemm(ArrayRef<int8_t> weights, int64_t n, int64_t runs, int64_t length,
                              int64_t nr);

/// Row-major [n, k] integers, one per byte, to WGemm's layout: `bits` 4 or 8; with `offset` added
/// to each (8 for signed 4-bit values).
std::vector<int8_t> packWGemm(ArrayRef<int8_t> weights, int64_t n, int64_t k, int64_t nr,
                              int64_t bits, int8_t offset);

/// Row-major [n, k] f16 values, as bits, in WGemm's order: [block][k][16 · nr].
std::vector<uint16_t> packWGemmHalf(ArrayRef<uint16_t> weights, int64_t n, int64_t k, int64_t nr);

/// Row-major [matrices, k, n] floats to FGemm's layout (see FGemm.cpp) with blocks of 16 · nr
/// columns; columns past n are zeros.
std::vector<float> packFGemm(ArrayRef<float> weights, int64_t matrices, int64_t k, int64_t n,
                             int64_t nr);

/// Row-major [n, groups] parameters to [block][group][16 · nr], `fill` past n.
template <typename T>
std::vector<T> packParameters(ArrayRef<T> values, int64_t n, int64_t groups, int64_t nr, T fill) {
  int64_t width = 16 * nr, blocks = (n + width - 1) / width;
  std::vector<T> packed(blocks * groups * width, fill);
  for (int64_t column = 0; column < n; ++column)
    for (int64_t g = 0; g < groups; ++g)
      packed[(column / width * groups + g) * width + column % width] = values[column * groups + g];
  return packed;
}

} // namespace lowbit::cpu

#endif // LOWBIT_LIB_TARGET_CPU_PACKWEIGHTS_H
