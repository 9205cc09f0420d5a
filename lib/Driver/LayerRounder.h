//===- LayerRounder.h - the layers of an opened model, rounded one after the other ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_DRIVER_LAYERROUNDER_H
#define LOWBIT_LIB_DRIVER_LAYERROUNDER_H

#include "lowbit/Analysis/LayerPlan.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Numerics/Moments.h"
#include "lowbit/Recipe/RoundedLayers.h"
#include "mlir/IR/BuiltinAttributes.h"
#include <memory>

namespace lowbit {

/// A tensor at an exchange point: row-major, may be written.
struct ExchangedTensor {
  float *data;
  ArrayRef<int64_t> dims;
  int64_t count() const;
};

/// One point of an opened model (lowbit-insert-exchanges), in the order in which runs reach them.
struct ExchangePoint {
  enum class Role { Input, Weight, Output } role;
  size_t layer; ///< The layer, or the first of those that share the input.
};

/// Keeps what is known of each layer while a model runs through its exchange points: second moments
/// of its input, then its rounded weights. Nothing here knows threads: calls come one at a time, in
/// an order that is the same every time.
class LayerRounder {
public:
  /// Reads the layers that the recipe quantizes from a module that lowbit-insert-exchanges has not
  /// seen yet, and copies nothing: the module's context must outlive this.
  explicit LayerRounder(const LayerPlan &plan);
  /// Reads the points of the opened module.
  LogicalResult readPoints(ModuleOp module);

  const std::vector<ExchangePoint> &points() const { return exchangePoints; }
  /// Whether anything is learned from the data at this point, so that runs have to wait there.
  bool isBarrier(const ExchangePoint &point) const;

  /// The input of a layer in one run of the quantized model: quantizes it as the recipe says, and
  /// learns from it. `heldOut` runs only check what the others decided.
  void observeInput(const ExchangePoint &point, ExchangedTensor x, bool heldOut);
  /// The same input in the run of the float model for the same sample, which comes first.
  void observeFloatInput(const ExchangePoint &point, ExchangedTensor x);
  /// All runs were there: rounds the weights of all layers that read this input. False, with the
  /// reason in `error`, where that is impossible.
  bool finishInput(const ExchangePoint &point, std::string &error);

  /// Writes the layer's weights, rounded ones or, for a run of the float model, its own.
  bool supplyWeights(const ExchangePoint &point, ExchangedTensor weights, bool isFloat,
                     std::string &error);

  /// The output of a layer in one run of the quantized or the float model.
  void observeOutput(const ExchangePoint &point, ExchangedTensor y, bool isFloat);
  /// All runs were there: what the bias is to grow by is known.
  void finishOutput(const ExchangePoint &point);
  /// Adds it.
  void shiftOutput(const ExchangePoint &point, ExchangedTensor y) const;

  /// No run will ask for the weights of this layer again.
  void dropWeights(const ExchangePoint &point);

  RoundedLayers takeResult();

  /// How long a point takes, in units that only compare: in one run, from there to the next point,
  /// of a sample whose dynamic dims together are `size`;
  double runCost(const ExchangePoint &point, double size, bool isFloat) const;
  /// and once all runs are there.
  double finishCost(const ExchangePoint &point) const;

private:
  struct Layer;
  /// By what `input`, the first of the layers that share its input, has learned.
  bool round(Layer &layer, const Layer &input, std::string &error);
  void addRows(Layer &layer, ExchangedTensor x, std::vector<Moments> &moments, bool heldOut);

  std::vector<std::shared_ptr<Layer>> layers;
  std::vector<ExchangePoint> exchangePoints;
  bool correctBiases, floatTargets;
};

} // namespace lowbit

#endif // LOWBIT_LIB_DRIVER_LAYERROUNDER_H
