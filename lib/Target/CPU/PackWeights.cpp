//===- PackWeights.cpp - weights in the order in which the CPU kernels read them ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "PackWeights.h"

using namespace lowbit;

std::vector<int8_t> cpu::packQGemm(ArrayRef<int8_t> weights, int64_t n, int64_t runs,
                                   int64_t length, int64_t nr) {
  int64_t width = 16 * nr, blocks = (n + width - 1) / width, steps = (length + 3) / 4;
  std::vector<int8_t> packed(blocks * runs * steps * width * 4, 0);
  for (int64_t column = 0; column < n; ++column)
    for (int64_t run = 0; run < runs; ++run)
      for (int64_t k = 0; k < length; ++k) {
        int64_t step = (column / width * runs + run) * steps + k / 4;
        packed[(step * width + column % width) * 4 + k % 4] =
            weights[(column * runs + run) * length + k];
      }
  return packed;
}

std::vector<int8_t> cpu::packWGemm(ArrayRef<int8_t> weights, int64_t n, int64_t k, int64_t nr,
                                   int64_t bits, int8_t offset) {
  int64_t width = 16 * nr, blocks = (n + width - 1) / width;
  std::vector<int8_t> packed(blocks * k * width * bits / 8, 0);
  for (int64_t column = 0; column < n; ++column)
    for (int64_t i = 0; i < k; ++i) {
      int64_t lane = column % width, row = (column / width * k + i) * (width * bits / 8);
      uint8_t value = static_cast<uint8_t>(weights[column * k + i] + offset);
      if (bits == 8)
        packed[row + lane] = value;
      else // Pairs of 16 columns share 16 bytes: the first in the low nibbles.
        packed[row + lane / 32 * 16 + lane % 16] |= (value & 15) << (lane % 32 < 16 ? 0 : 4);
    }
  return packed;
}

std::vector<uint16_t> cpu::packWGemmHalf(ArrayRef<uint16_t> weights, int64_t n, int64_t k,
                                         int64_t nr) {
  int64_t width = 16 * nr, blocks = (n + width - 1) / width;
  std::vector<uint16_t> packed(blocks * k * width, 0);
  for (int64_t column = 0; column < n; ++column)
    for (int64_t i = 0; i < k; ++i)
      packed[(column / width * k + i) * width + column % width] = weights[column * k + i];
  return packed;
}

std::vector<float> cpu::packFGemm(ArrayRef<float> weights, int64_t matrices, int64_t k, int64_t n,
                                  int64_t nr) {
  int64_t width = 16 * nr, blocks = (n + width - 1) / width;
  std::vector<float> packed(matrices * blocks * k * width, 0.0f);
  float *to = packed.data();
  for (int64_t matrix = 0; matrix < matrices; ++matrix)
    for (int64_t block = 0; block < blocks; ++block)
      for (int64_t i = 0; i < k; ++i, to += width) {
        const float *from = weights.data() + (matrix * k + i) * n + block * width;
        std::copy(from, from + std::min(width, n - block * width), to);
      }
  return packed;
}
