//===- LayerRewriter.h - new weights and biases for a layer ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TRANSFORMS_LAYERREWRITER_H
#define LOWBIT_LIB_TRANSFORMS_LAYERREWRITER_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/Operation.h"
#include "llvm/ADT/SetVector.h"
#include <optional>
#include <string>
#include <vector>

namespace lowbit {

/// Changes the f32 constants of layers (ops with a WeightLayout) and keeps their names.
class LayerRewriter {
public:
  ~LayerRewriter() { eraseUnused(); }

  /// Operand `index` of `op` becomes a constant of `shape` and `values`. It keeps the name of the
  /// one that was there; `role` names the first one.
  void setConstant(Operation *op, unsigned index, ArrayRef<int64_t> shape, ArrayRef<float> values,
                   StringRef role);

  /// One value per out channel that is added to the layer's products: its bias operand, times beta,
  /// plus a constant Add behind it. Zeros where it has none; nothing where it has one that is not
  /// constant per channel.
  static std::optional<std::vector<double>> getBias(Operation *layer);
  /// Puts `bias` where getBias found it; behind a MatMul without one goes a new Add, which
  /// `getBias` must have allowed.
  void setBias(Operation *layer, ArrayRef<double> bias);
  /// Like it of the weights, times alpha.
  static std::vector<double> getWeights(Operation *layer);
  void setWeights(Operation *layer, ArrayRef<double> weights);

  /// The op whose result is that of the layer with its bias: the layer, or the Add behind a MatMul.
  static Operation *getEnd(Operation *layer);

  /// Erases the constants that were replaced and are read no more.
  void eraseUnused();
  void noteUnused(Operation *op) { unused.insert(op); }

private:
  llvm::SetVector<Operation *> unused;
};

} // namespace lowbit

#endif // LOWBIT_LIB_TRANSFORMS_LAYERREWRITER_H
