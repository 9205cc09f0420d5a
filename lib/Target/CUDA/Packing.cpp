//===- Packing.cpp - weights and parameters as the kernels read them ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Packing.h"
#include "llvm/ADT/ArrayRef.h"
#include <cstring>
#include <limits>

using namespace lowbit;
using namespace lowbit::cuda;

/// Where element k of a column lies in the original weights when k walks a convolution's window
/// channels last.
static int64_t originalK(const Schedule &s, int64_t k) {
  if (!s.conv)
    return k;
  int64_t channels = s.conv->channels / s.conv->groups;
  return k % channels * s.conv->kernelH * s.conv->kernelW + k / channels;
}

std::vector<int8_t> cuda::packMmaS8(const Schedule &s, ArrayRef<int8_t> weights) {
  int64_t columns = s.paddedN(), depth = s.paddedK();
  std::vector<int8_t> packed(columns * depth, 0);
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t k = 0; k < s.k; ++k) {
      int64_t block = n / 16 * (depth / 64) + k / 64, column = n % 16;
      int64_t chunk = (k % 64 / 16) ^ (column / 2 % 4);
      packed[block * 1024 + column * 64 + chunk * 16 + k % 16] = weights[n * s.k + originalK(s, k)];
    }
  return packed;
}

std::vector<int8_t> cuda::packDirectS8(const Schedule &s, ArrayRef<int8_t> weights) {
  std::vector<int8_t> packed(s.k * s.paddedN(), 0);
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t k = 0; k < s.k; ++k)
      packed[k * s.paddedN() + n] = weights[n * s.k + originalK(s, k)];
  return packed;
}

std::vector<int8_t> cuda::packDepthwiseS8(const Schedule &s, ArrayRef<int8_t> weights) {
  std::vector<int8_t> packed((s.k + 3) / 4 * 4 * s.paddedN(), 0);
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t k = 0; k < s.k; ++k)
      packed[(k / 4 * s.paddedN() + n) * 4 + k % 4] = weights[n * s.k + k];
  return packed;
}

/// Fills blocks of 16 columns × 64 k; `place(block, lane, step, tile, row, value)` knows the word.
template <typename T, typename Place>
static std::vector<uint32_t> packBlocks(const Schedule &s, ArrayRef<T> weights, Place place) {
  int64_t words = s.paddedN() * s.paddedK() * s.bits / 32, blockWords = 16 * 64 * s.bits / 32;
  std::vector<uint32_t> packed(words, 0);
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t k = 0; k < s.k; ++k) {
      int64_t tile = n % 16 / 8, g = n % 8, step = k % 64 / 16, row = k % 16;
      int64_t lane = 4 * g + row % 8 / 2;
      uint32_t *block = &packed[(n / 16 * (s.paddedK() / 64) + k / 64) * blockWords];
      int64_t from = s.channelsLast() ? originalK(s, k) : k;
      place(block, lane, step, tile, row, uint32_t(weights[n * s.k + from]));
    }
  return packed;
}

std::vector<uint32_t> cuda::packWeightOnly(const Schedule &s, ArrayRef<uint8_t> weights) {
  return packBlocks(
      s, weights,
      [&](uint32_t *block, int64_t lane, int64_t step, int64_t tile, int64_t row, uint32_t value) {
        if (s.bits == 4)
          block[lane * 4 + step] |= value << (8 * tile + 4 * (row / 8) + 16 * (row % 2));
        else
          block[step / 2 * 128 + lane * 4 + step % 2 * 2 + tile] |=
              value << (8 * (row / 8 * 2 + row % 2));
      });
}

std::vector<uint32_t> cuda::packHalf(const Schedule &s, ArrayRef<uint16_t> weights) {
  return packBlocks(
      s, weights,
      [](uint32_t *block, int64_t lane, int64_t step, int64_t tile, int64_t row, uint32_t value) {
        block[step * 128 + lane * 4 + tile * 2 + row / 8] |= value << (16 * (row % 2));
      });
}

static int32_t bitsOf(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

std::vector<int32_t> cuda::packParameters(const Schedule &s, const IntegerParameters &p) {
  std::vector<int32_t> words(kParamHeader + 2 * s.paddedN(), 0);
  if (s.output == Element::F32) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    words[kParamClampLow] = bitsOf(p.relu ? 0.0f : -kInfinity);
    words[kParamClampHigh] = bitsOf(kInfinity);
  } else {
    int64_t low = s.output == Element::U8 ? 0 : -128, high = s.output == Element::U8 ? 255 : 127;
    words[kParamClampLow] = (p.relu ? std::max(low, p.outputZero) : low) - p.outputZero;
    words[kParamClampHigh] = high - p.outputZero;
    words[kParamZero] = p.outputZero;
  }
  std::memset(&words[kParamPad], static_cast<int>(p.inputZero & 0xff), 64);
  for (int64_t n = 0; n < s.n; ++n) {
    words[kParamHeader + n] = p.biases[n];
    words[kParamHeader + s.paddedN() + n] = bitsOf(p.multipliers[n]);
  }
  return words;
}

std::vector<int32_t> cuda::packParameters(const Schedule &s, const GroupedParameters &p) {
  int64_t columns = s.paddedN(), groups = s.paddedGroups();
  std::vector<int32_t> words(kParamHeader + columns + groups * columns + groups * columns / 4, 0);
  words[kParamClampLow] = bitsOf(p.relu ? 0.0f : -std::numeric_limits<float>::infinity());
  int32_t *biases = &words[kParamHeader], *scales = biases + columns;
  auto *zeros = reinterpret_cast<uint8_t *>(scales + groups * columns);
  for (int64_t n = 0; n < s.n; ++n)
    biases[n] = bitsOf(p.biases[n]);
  for (int64_t g = 0; g < s.groups(); ++g)
    for (int64_t n = 0; n < s.n; ++n) {
      scales[g * columns + n] = bitsOf(p.scales[g * s.n + n]);
      zeros[g * columns + n] = p.zeros[g * s.n + n];
    }
  return words;
}

std::vector<int32_t> cuda::packParameters(const Schedule &s, const RunTimeParameters &p) {
  std::vector<int32_t> words(kParamHeader + 3 * s.paddedN(), 0);
  words[kParamClampLow] = bitsOf(p.relu ? 0.0f : -std::numeric_limits<float>::infinity());
  int32_t *biases = &words[kParamHeader];
  for (int64_t n = 0; n < s.n; ++n) {
    biases[n] = bitsOf(p.biases[n]);
    biases[s.paddedN() + n] = bitsOf(p.scales[n]);
    biases[2 * s.paddedN() + n] = p.columnSums[n];
  }
  return words;
}

std::vector<uint8_t> cuda::packTable(const Schedule &s, ArrayRef<uint8_t> table) {
  if (s.bits == 8)
    return table.vec();
  int64_t rowBytes = (s.n + 1) / 2;
  std::vector<uint8_t> packed(s.k * rowBytes, 0);
  for (int64_t row = 0; row < s.k; ++row)
    for (int64_t column = 0; column < s.n; ++column)
      packed[row * rowBytes + column / 2] |= table[row * s.n + column] << (column % 2 * 4);
  return packed;
}

std::vector<float> cuda::packTableParameters(ArrayRef<float> scales, ArrayRef<uint8_t> zeros) {
  std::vector<float> packed(scales.begin(), scales.end());
  packed.insert(packed.end(), zeros.begin(), zeros.end());
  return packed;
}
