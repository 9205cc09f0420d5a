//===- LayerPlan.h - the layers of a model and what a recipe says of them ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_ANALYSIS_LAYERPLAN_H
#define LOWBIT_ANALYSIS_LAYERPLAN_H

#include "lowbit/Interfaces/QuantizableOpInterface.h"
#include "lowbit/Recipe/Recipe.h"
#include "lowbit/Support/LLVM.h"
#include <optional>
#include <string>
#include <vector>

namespace lowbit {

class ConstantData;

/// One op that implements QuantizableOpInterface.
struct PlannedLayer {
  Operation *op = nullptr;
  LayerKey key;
  /// Nothing where it cannot be quantized, for the reason in `whyNot`.
  std::optional<QuantizableLayer> layer;
  std::string whyNot;
  /// The model itself quantizes its weights: they are the result of this lowbit.dequantize of a
  /// constant. `layer` is then empty, and no recipe may decide about it.
  Operation *dequantize = nullptr;
  /// Index of the recipe's rule for it; nothing where none matches: it stays in float.
  std::optional<size_t> rule;
};

struct LayerPlan {
  Recipe recipe;
  std::vector<PlannedLayer> layers; ///< In program order.
  /// The rule of a layer, or null.
  const Rule *ruleOf(const PlannedLayer &layer) const {
    return layer.rule ? &recipe.rules[*layer.rule] : nullptr;
  }
};

/// Loads a recipe (see Recipe::load) and finds the rule of each layer of `module`. Layers that have
/// a name only by their position get it written down (`lowbit.layer`), so that it stays when others
/// go away. Nothing, after an error at the module, for a recipe that is wrong, asks for what is not
/// supported, has a rule that matches nothing, or would quantize again what the model has
/// quantized.
std::optional<LayerPlan> planLayers(ModuleOp module, StringRef recipe);

/// The layers that the model has quantized and that a rule of the recipe would quantize again.
std::vector<const PlannedLayer *> requantized(const LayerPlan &plan);

/// All layers without rules: what could be quantized and why not.
std::vector<PlannedLayer> findLayers(ModuleOp module);

/// The bias of a layer: its own operand, or that of an onnx.Add of a constant with one value per
/// channel that is the only user of its result; `end` becomes the op whose result has the bias in
/// it. Null where there is none.
OpOperand *findBias(Operation *op, const QuantizableLayer &layer, Operation *&end);

/// The weights of a layer as a float matrix [channels, K], times weightFactor. `data` are the layer's
/// own; its operands are not read.
std::vector<float> weightMatrix(const QuantizableLayer &layer, const ConstantData &data);

/// "Conv" for onnx.Conv, the full name for ops of other dialects.
std::string getLayerOpName(Operation *op);

} // namespace lowbit

#endif // LOWBIT_ANALYSIS_LAYERPLAN_H
