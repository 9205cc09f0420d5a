//===- Activations.h - where a kernel finds its activations ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A kernel sees its activations as a matrix of rows × k. For a linear layer that is what they are;
// for a convolution, row and k name a pixel of the result and an element of the filter's window
// (implicit GEMM).
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_ACTIVATIONS_H
#define LOWBIT_LIB_TARGET_CUDA_ACTIVATIONS_H

#include "KernelBuilder.h"
#include "lowbit/Target/CUDA/Schedule.h"

namespace lowbit::cuda {

/// In which order k walks a convolution's window. Channels last keeps neighbouring k neighbours in
/// memory.
enum class WindowOrder { HWC, CHW };

class Activations {
public:
  /// `pad` points to readable memory that stands for every element outside of the matrix or the
  /// image. With `pastTheEnd`, k may be any number; else it is below the padded k.
  Activations(KernelBuilder &b, const Schedule &schedule, WindowOrder order, Value base, Value pad,
              Value rows, bool pastTheEnd = false);

  /// One row's state, computed once per thread, outside of the main loop.
  struct Row {
    Value base;      // of the row (linear) or of its image (convolution)
    Value valid;     // row < rows
    Value top, left; // convolution: the window's corner, as wrapping i32
  };
  Row row(Value index) const;

  /// Address of element k (i32) of a row, or `pad`.
  Value address(const Row &row, Value k) const { return locate(row, k).first; }
  /// The address, which is always readable, and whether it is that of an element.
  std::pair<Value, Value> locate(const Row &row, Value k) const;

  /// Of a convolution, channels last: address of a channel (i32) at an element of the window, or
  /// `pad`.
  Value tapAddress(const Row &row, int64_t tap, Value channel) const;
  /// Of f32 elements: `count` from `k` on, `granule` to a load, rounded to a vector of f16.
  Value loadHalves(const Row &row, Value k, int64_t count, int64_t granule) const;

  /// The most elements, at most `limit`, that are always adjacent in memory and aligned to their
  /// size when k is a multiple of their number.
  static int64_t granule(const Schedule &schedule, WindowOrder order, int64_t limit);

private:
  KernelBuilder &b;
  const Schedule &s;
  WindowOrder order;
  Value base, pad, rows;
  int64_t bytes; // per element
  bool checkDepth;
};

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_ACTIVATIONS_H
