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
  /// Stores one, two or four neighbouring columns of results, `column` the first (i32, below n),
  /// `offset` the index of the first result in `output` (i64).
  void store(ArrayRef<Value> sums, Value column, Value output, Value offset);

private:
  Value finish(Value sum, Value bias, Value multiplier);
  KernelBuilder &b;
  const Schedule &s;
  Value parameters, low, high, zero;
};

/// The same where the run gives the input's scale and zero point: f32(Σ (a − z) w) · weight scale ·
/// input scale + bias, relu; one f32 operation after the other, none fused, as on the CPU. Σ (a −
/// z) w = Σ a w − z Σ w, wrapping.
class RunTimeScales {
public:
  /// `scales` (f32) and `zeros` (bytes of the input's type): one per row, or one.
  RunTimeScales(KernelBuilder &b, const Schedule &schedule, Value parameters, Value scales,
                Value zeros)
      : b(b), s(schedule), parameters(parameters), scales(scales), zeros(zeros),
        low(b.load(b.f32(), b.at(parameters, kParamClampLow * 4), 4)) {}
  struct Row {
    Value scale, zero;
  };
  Row row(Value index) const;
  /// As Requantize::store.
  void store(const Row &row, ArrayRef<Value> sums, Value column, Value output, Value offset) const;

private:
  KernelBuilder &b;
  const Schedule &s;
  Value parameters, scales, zeros, low;
};

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_REQUANTIZE_H
