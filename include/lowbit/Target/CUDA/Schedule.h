//===- Schedule.h - what a CUDA kernel generator needs to know ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TARGET_CUDA_SCHEDULE_H
#define LOWBIT_TARGET_CUDA_SCHEDULE_H

#include "lowbit/Support/LLVM.h"
#include <array>
#include <optional>
#include <string>

namespace lowbit::cuda {

/// What activations, indices or results are made of.
enum class Element { U8, I8, I32, I64, F32 };

/// Scale and zero point of an integer input: constants, or given by the run, for the whole tensor
/// or for each row.
enum class Scales { Constant, Tensor, Row };

/// A convolution over two spatial axes with everything but the batch static. Results are [batch,
/// oh, ow, f]; inputs are NHWC, but NCHW where weights have groups along the filter.
struct ConvShape {
  int64_t channels = 0, height = 0, width = 0; // of the input
  int64_t kernelH = 1, kernelW = 1, strideH = 1, strideW = 1;
  int64_t padTop = 0, padLeft = 0, dilationH = 1, dilationW = 1;
  int64_t outH = 0, outW = 0, groups = 1;
};

/// One kernel: its family, its shapes, and the tile sizes that the cost model chose. A kernel
/// computes `rows` × n results, each a sum of k products; `rows` (batch × leading dimensions, or
/// batch × outH × outW) is known at launch only.
struct Schedule {
  /// "cuda.mma_s8": integer activations on int8 tensor cores, linear or convolution (groups == 1).
  /// "cuda.mma_f16": float activations, rounded to f16, times f16 weights, f32 accumulation.
  /// "cuda.w4a16": the same with integer weights, per channel or in groups. "cuda.direct_s8":
  /// integer convolution with groups, one thread per result. "cuda.gemv": either of the two on 1 to
  /// 16 rows. "cuda.gather": rows of a quantized table [k, n] as f32; the input is the indices.
  /// "cuda.depthwise_s8": depthwise integer convolution, channels in fours. "cuda.rowquant": rows
  /// of f32 to integers, each with its own range. "cuda.combine": adds up the splits of a gemv.
  std::string generator;
  Element input = Element::U8, output = Element::U8;
  int64_t n = 0, k = 0;
  std::optional<ConvShape> conv;

  // Float activations: stored bits of a weight (4, 8 or, f16, 16) and consecutive k per scale (a
  // multiple of 16, or k rounded up to 64). Gather: stored bits and consecutive n per scale.
  int64_t bits = 8, group = 0;

  Scales scales = Scales::Constant; // of cuda.mma_s8
  bool symmetric = false;           // of cuda.rowquant

  // Results of one block, k elements per step of the main loop, and how its warps share the block.
  // The warps of a gemv split k instead.
  int64_t tileM = 0, tileN = 0, tileK = 64, warpsM = 1, warpsN = 1;
  // Copies of the tiles in shared memory: stages - 1 are in flight.
  // Of a gemv, tiles of k that are read ahead.
  int64_t stages = 4;

  // Gemv: blocks that share k, whose sums the result holds side by side, [rows, splits, n]; and the
  // columns that weights and parameters are padded to where another kernel of the layer reads them.
  int64_t splits = 1, columns = 0;

  /// Float activations on f16 tensor cores.
  bool weightOnly() const {
    return generator == "cuda.mma_f16" || generator == "cuda.w4a16" || generator == "cuda.gemv";
  }
  /// A convolution reads NHWC.
  bool channelsLast() const { return !weightOnly() || group >= paddedK(); }
  int64_t threads() const { return 32 * warpsM * warpsN; }
  int64_t paddedN() const { return columns ? columns : (n + tileN - 1) / tileN * tileN; }
  int64_t paddedK() const { return (k + tileK - 1) / tileK * tileK; }
  int64_t groups() const { return (k + group - 1) / group; }
  int64_t paddedGroups() const { return (paddedK() + group - 1) / group; }
  int64_t sharedBytes() const;

  DictionaryAttr toAttr(MLIRContext *context) const;
  /// Emits an error at `loc` and returns nothing where a key is missing or has the wrong type.
  static std::optional<Schedule> fromAttr(StringRef generator, DictionaryAttr attr, Location loc);
};

/// Fails with an error at `loc` where no kernel can be built: tile sizes that do not fit the
/// family.
LogicalResult verifySchedule(const Schedule &schedule, Location loc);

/// How to launch a kernel: `threads` along x, grid (ceil(rows / rowsPerBlock), blocksN).
struct LaunchShape {
  int64_t threads, rowsPerBlock, blocksN, sharedBytes;
};
LaunchShape launchShape(const Schedule &schedule);

/// Fills tile sizes, warps and stages for about `rows` rows; the same input gives the same
/// schedule.
void chooseTiles(Schedule &schedule, int64_t rows);

/// The most rows that a gemv takes.
constexpr int64_t kGemvRows = 16;
/// Makes of a weight-only schedule that of a gemv for at most `rows` (1 … kGemvRows) rows. Where
/// `columns` is given, weights and parameters stay packed as they are.
void chooseGemv(Schedule &schedule, int64_t rows);
/// Makes of a gemv's schedule that of the kernel that adds the sums of its splits.
void chooseCombine(Schedule &schedule);

/// Words of the parameter block in front of the per-column vectors: clamp bounds and zero point,
/// then 64 bytes of the value that padding stands for.
constexpr int64_t kParamClampLow = 0, kParamClampHigh = 1, kParamZero = 2, kParamPad = 4,
                  kParamHeader = 20;

} // namespace lowbit::cuda

#endif // LOWBIT_TARGET_CUDA_SCHEDULE_H
