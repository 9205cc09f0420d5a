//===- Requantize.h - the end of every integer kernel ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_REQUANTIZE_H
#define LOWBIT_LIB_TARGET_CUDA_REQUANTIZE_H

#include "KernelBuilder.h"
#include "lowbit/Target/CUDA/Schedule.h"

namespace lowbit::cuda {

/// The project's one arithmetic: i32 sum + bias, one conversion to f32, one f32 multiplication; for
/// integer results round half to even, + zero point, saturate. Bounds, zero point, biases and
/// multipliers come from the parameter block, so layers of one shape share a kernel whatever their
/// activation function.
class Requantize {
public:
  Requantize(KernelBuilder &b, const Schedule &schedule, Value parameters);
  /// Stores one or two neighbouring columns of results, `column` the first (i32, below n), `offset`
  /// the index of the first result in `output` (i64).
  void store(ArrayRef<Value> sums, Value column, Value output, Value offset);

private:
  Value finish(Value sum, Value bias, Value multiplier);
  KernelBuilder &b;
  const Schedule &s;
  Value parameters, low, high, zero;
};

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_REQUANTIZE_H
