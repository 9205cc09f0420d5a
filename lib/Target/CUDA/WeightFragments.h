//===- WeightFragments.h - weights on f16 tensor cores ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Packed blocks of 16 columns × 64 k (see packWeightOnly) to registers. In a step of 16 k, lane
// 4g + t of a warp holds columns g (tile 0) and g + 8 (tile 1), each as two pairs of f16: k 2t, 2t
// + 1 and 2t + 8, 2t + 9. That is what mma.m16n8k16 wants of two 8-column B operands, and just as
// well of one 16-row A operand: one packing serves both.
//
// Integers become q − zero, which f16 holds exactly: the bits 0x6400 + q are the f16 number 1024 +
// q, and 0x6400 + 16 q is 1024 + 16 q.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_WEIGHTFRAGMENTS_H
#define LOWBIT_LIB_TARGET_CUDA_WEIGHTFRAGMENTS_H

#include "KernelBuilder.h"

namespace lowbit::cuda {

class WeightFragments {
public:
  WeightFragments(KernelBuilder &b, const Schedule &s, Value parameters)
      : b(b), s(s), parameters(parameters) {}

  int64_t blockBytes() const { return 16 * 64 * s.bits / 8; }
  /// A 16-byte load of each lane holds this many steps of 16 k: 4, 2 or 1.
  int64_t stepsPerLoad() const { return 16 / s.bits; }
  int64_t loadsPerBlock() const { return 4 / stepsPerLoad(); }
  /// Offset in a block of a lane's words for steps from `step` on.
  Value offset(Value lane, int64_t step) const {
    return b.add(b.mul(lane, 16), step / stepsPerLoad() * 512);
  }
  /// The two pairs of a step and tile, from the four words (vector<4xi32>) that hold the step.
  std::array<Value, 2> unpack(Value words, int64_t step, int64_t tile, Value zero) const;
  /// 1024 + the zero point of `column` in both halves of a pair; nothing where weights are f16.
  Value zero(Value group, Value column) const;
  /// f32 scales of `count` (1, 2) columns from `column` on.
  Value scale(Value group, Value column, int64_t count) const;

private:
  KernelBuilder &b;
  const Schedule &s;
  Value parameters;
};

/// The end of every kernel with f32 sums and results: scale, + bias, relu as a lower bound.
class FloatEpilogue {
public:
  FloatEpilogue(KernelBuilder &b, const Schedule &s, Value parameters);
  /// Of `count` (1, 2) columns from `column` on.
  Value bias(Value column, int64_t count) const;
  /// `scale` is nothing where it has been applied to each group's sum.
  Value finish(Value sum, Value scale, Value bias) const;

private:
  KernelBuilder &b;
  const Schedule &s;
  Value parameters, low;
};

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_WEIGHTFRAGMENTS_H
