//===- WeightLayout.h - in and out channels of a weight constant ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TRANSFORMS_WEIGHTLAYOUT_H
#define LOWBIT_LIB_TRANSFORMS_WEIGHTLAYOUT_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/Operation.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include <cstdint>
#include <optional>

namespace lowbit {

/// A constant matrix [a, b, inner…] that makes out channels from in channels: operand 1 of a Conv,
/// ConvTranspose, Gemm or MatMul.
struct WeightLayout {
  int64_t a = 0, b = 0, inner = 1; ///< Its shape; `inner` are a filter's taps.
  int64_t groups = 1;
  bool outFirst = false; ///< `a` counts out channels: Conv, Gemm with transB.

  int64_t inputs() const { return outFirst ? b * groups : a; }
  int64_t outputs() const { return outFirst ? a : b * groups; }
  bool isDepthwise() const { return groups > 1 && outFirst && b == 1; }

  /// Calls `visit(offset, in, out)` for the first of each `inner` elements that lie together.
  void forEach(llvm::function_ref<void(int64_t offset, int64_t in, int64_t out)> visit) const;
};

/// The layout of an op's weights. Nothing where the op is another one, its weights are no f32
/// constant of known shape, or its activations are transposed (Gemm with transA).
std::optional<WeightLayout> getWeightLayout(Operation *op);

/// True for a Conv that reads zeros beside its input.
bool hasPadding(Operation *conv);

} // namespace lowbit

#endif // LOWBIT_LIB_TRANSFORMS_WEIGHTLAYOUT_H
