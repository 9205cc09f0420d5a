//===- QGemm.h - the generator of int8 GEMM and convolution ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CPU_QGEMM_H
#define LOWBIT_LIB_TARGET_CPU_QGEMM_H

#include "KernelBuilder.h"

namespace lowbit::cpu {

/// Emits the body of one variant of cpu.qgemm; see QGemm.cpp.
class QGemm {
public:
  QGemm(KernelBuilder &b, rt::KernelOp kernel, const ISA &isa, func::FuncOp function);
  void run();

private:
  /// Where one chunk's rows start and how far apart they are, in elements. `first`: the index of
  /// the first row, of a linear layer.
  struct Chunk {
    Value input, pixel, count, output, first;
  };
  Chunk chunkAt(Value chunk);
  void anyTile(const Chunk &chunk, Value row, int64_t rows, Value block, Value group);
  void tile(const Chunk &chunk, Value row, int64_t rows, Value block, Value group);
  SmallVector<Value> step(ArrayRef<Value> rowOffsets, Value inputOffset, Value weightOffset,
                          ValueRange accumulators);
  Value dot(Value accumulator, Value activations, Value weights);
  Value columns(ArrayRef<Value> halves);
  void finish(Value sums, Value column, Value outputOffset);
  void storeColumns(Value result, Value column, Value outputOffset);
  int64_t partsPerRow() const { return variant.dotProduct ? groupVectors : 4; }

  // Sums in float: QGemmFloat.cpp.
  void tileInFloat(const Chunk &chunk, Value row, int64_t rows, Value block, Value group);
  SmallVector<Value> groupInFloat(ArrayRef<Value> rowOffsets, ArrayRef<Value> zeros,
                                  Value weightBase, Value parameters, Value from, Value to);
  void finishInFloat(Value sum, Value scale, Value column, Value outputOffset);

  KernelBuilder &b;
  const ISA &variant;
  bool conv;
  int64_t n, nr, length, steps, runsH, runsW;
  bool relu;
  int64_t outputZero, low, high, mr, groupVectors;
  rt::KernelOp kernel;
  func::FuncOp function;
  Value input, weights, bias, multiplier, output; // Flat.
  Value inputMemref, outputMemref, rowStride;     // rowStride: elements between kernel rows.
  // Sums in float: steps of K per group; a scale and zero point per row or one for all.
  bool floatSums = false, perRow = false;
  int64_t groupSteps = 0, groups = 1;
  Value columnSums, inputScale, inputZero; // Flat.
};

} // namespace lowbit::cpu

#endif // LOWBIT_LIB_TARGET_CPU_QGEMM_H
