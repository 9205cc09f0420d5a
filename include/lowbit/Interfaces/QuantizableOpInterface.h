//===- QuantizableOpInterface.h - ops that have weights ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_INTERFACES_QUANTIZABLEOPINTERFACE_H
#define LOWBIT_INTERFACES_QUANTIZABLEOPINTERFACE_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/OpDefinition.h"
#include <optional>
#include <string>

namespace lowbit {

/// The pivot op that a layer becomes.
enum class LayerKind { Linear, Conv, Gather };

/// Of a convolution with n spatial dimensions: n strides and dilations, 2n pads (all begins, then
/// all ends).
struct ConvGeometry {
  SmallVector<int64_t, 2> strides, dilations;
  SmallVector<int64_t, 4> pads;
  int64_t groups = 1;
};

/// What the passes need to know about an op. The operands belong to the op and must not outlive it.
struct QuantizableLayer {
  LayerKind kind = LayerKind::Linear;
  /// The activations [..., K] or [N, C, spatial…]; of a gather the indices.
  OpOperand *input = nullptr;
  /// Linear: [N, K], or [K, N] where `reductionFirst`. Conv: [F, C / groups, spatial…], of a
  /// depthwise op without the second dimension. Gather: [V, D].
  OpOperand *weight = nullptr;
  /// [N], or any shape that broadcasts to [..., N] with N elements; null where there is none.
  OpOperand *bias = nullptr;
  bool reductionFirst = false;
  /// The result is weightFactor · (x W) + biasFactor · bias.
  float weightFactor = 1, biasFactor = 1;
  ConvGeometry conv;

  /// The axis of `weight` that has one entry per output channel (per row of a table).
  int64_t channelAxis() const { return kind == LayerKind::Linear && reductionFirst ? 1 : 0; }
};

/// Attaches the interface to linalg's named ops.
void registerLinalgQuantizableModels(DialectRegistry &registry);

} // namespace lowbit

#include "lowbit/Interfaces/QuantizableOpInterface.h.inc"

#endif // LOWBIT_INTERFACES_QUANTIZABLEOPINTERFACE_H
