//===- Packing.h - weights and parameters as the kernels read them ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_PACKING_H
#define LOWBIT_LIB_TARGET_CUDA_PACKING_H

#include "lowbit/Target/CUDA/Schedule.h"
#include <cstdint>
#include <vector>

namespace lowbit::cuda {

/// `weights`: int8, row-major [n, k] (linear) or [n, channels / groups, kernelH, kernelW]
/// (convolution). For cuda.mma_s8: 1024-byte blocks [paddedN / 16][paddedK / 64] of 16 columns × 64
/// k, k walking the window channels last, each column's four 16-byte chunks permuted by (column /
/// 2) % 4; padding is 0.
std::vector<int8_t> packMmaS8(const Schedule &schedule, ArrayRef<int8_t> weights);

/// For cuda.direct_s8: [kernelH][kernelW][channels / groups][paddedN].
std::vector<int8_t> packDirectS8(const Schedule &schedule, ArrayRef<int8_t> weights);

/// For cuda.depthwise_s8: words of four elements of a filter's window, [ceil(elements /
/// 4)][paddedN]; what is beyond the window is 0.
std::vector<int8_t> packDepthwiseS8(const Schedule &schedule, ArrayRef<int8_t> weights);

/// For integers in cuda.w4a16 and cuda.gemv: `weights` are stored values less their type's minimum,
/// so 0 … 15 or 0 … 255, row-major [n, k]. Blocks [paddedN / 16][paddedK / 64] of 16 columns × 64
/// k. Lane 4g + t of a warp multiplies column g of each of the block's two 8-column tiles by rows
/// 2t, 2t + 1, 2t + 8, 2t + 9 of each of its four steps of 16 k; a block holds these weights lane
/// by lane as the lane unpacks them. 4 bits, [32 lanes][4 steps] words: bits 8 × tile + 4 × (row /
/// 8) + 16 × (row % 2). 8 bits, [2 halves][32 lanes][2 steps][2 tiles] words: bytes in the order of
/// the rows above. A convolution's k walks the window channels last where the schedule does.
std::vector<uint32_t> packWeightOnly(const Schedule &schedule, ArrayRef<uint8_t> weights);

/// The same blocks of f16 bit patterns, for cuda.mma_f16 and cuda.gemv: [4 steps][32 lanes][2
/// tiles][2 pairs] words.
std::vector<uint32_t> packHalf(const Schedule &schedule, ArrayRef<uint16_t> weights);

/// For cuda.gather: the table's rows of stored values less their type's minimum, row-major; 4-bit
/// values two per byte, the even column in the low half, each row starting a byte.
std::vector<uint8_t> packTable(const Schedule &schedule, ArrayRef<uint8_t> table);

/// What an integer kernel needs beside the weights; see Schedule.h for the words.
struct IntegerParameters {
  int64_t inputZero = 0, outputZero = 0;
  bool relu = false;
  /// Per column: the bias with the input's zero point folded in (bias − inputZero × Σ weights,
  /// wrapping) and the multiplier.
  std::vector<int32_t> biases;
  std::vector<float> multipliers;
};
/// [header][biases, paddedN][multipliers, paddedN].
std::vector<int32_t> packParameters(const Schedule &schedule, const IntegerParameters &parameters);

/// What an integer kernel needs where the run gives the input's scale and zero point.
struct RunTimeParameters {
  bool relu = false;
  std::vector<float> biases;       // n; −0, which changes no sum, where there is none
  std::vector<float> scales;       // n
  std::vector<int32_t> columnSums; // n: Σ weights
};
/// [header][biases, paddedN][scales, paddedN][column sums, paddedN].
std::vector<int32_t> packParameters(const Schedule &schedule, const RunTimeParameters &parameters);

/// What a weight-only kernel needs beside the weights.
struct GroupedParameters {
  bool relu = false;
  std::vector<float> biases;  // n
  std::vector<float> scales;  // [groups, n]
  std::vector<uint8_t> zeros; // [groups, n], less the type's minimum
};
/// For cuda.w4a16, cuda.mma_f16 and cuda.gemv: [header][biases, paddedN][scales, paddedGroups ×
/// paddedN][zeros, paddedGroups × paddedN bytes]; the header's pad is 0.
std::vector<int32_t> packParameters(const Schedule &schedule, const GroupedParameters &parameters);

/// For cuda.gather: [scales, k × groups of n][zeros as f32, less the type's minimum, likewise].
std::vector<float> packTableParameters(ArrayRef<float> scales, ArrayRef<uint8_t> zeros);

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_PACKING_H
