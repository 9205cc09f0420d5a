//===- LayerRounder.cpp - the layers of an opened model, rounded one after the other ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "LayerRounder.h"
#include "lowbit/Numerics/FloatTargets.h"
#include "lowbit/Numerics/Patches.h"
#include "lowbit/Numerics/Quantize.h"
#include "lowbit/Recipe/Rounding.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"
#include <algorithm>
#include <malloc.h>
#include <sys/mman.h>
#include <numeric>

using namespace lowbit;

int64_t ExchangedTensor::count() const {
  return std::accumulate(dims.begin(), dims.end(), int64_t(1), std::multiplies<>());
}

/// What things take (measured on a 160M Llama with GPTQ), in multiplications of a float layer that
/// runs: one multiplication of the second moments, with those against the float model; one for the
/// Cholesky factor; one for the rounding of a column; and handing one weight to one run.
static constexpr double momentsCost = 5.6, factorCost = 2, roundCost = 25, supplyCost = 320;

/// Sums per channel of a layer's output.
namespace {
struct ChannelSums {
  std::vector<double> sums;
  double count = 0; ///< Of each channel.
};
} // namespace

struct LayerRounder::Layer {
  std::string name;
  QuantizableLayer op; ///< Without its operands: the op is lowered meanwhile.
  WeightRule rule;
  std::optional<ActivationRule> activation;
  QuantParams params; ///< Of static activations.
  ElementsAttr weights;
  SmallVector<int64_t> shape;
  int64_t channels, cols;
  double rows; ///< Of its input per run, in units of the run's size.
  /// Of the first of the layers that share an input: all of them, itself too.
  std::vector<Layer *> sharing;
  std::vector<Moments> moments, heldOut;
  std::vector<CrossMoments> cross; ///< Of the rows behind `moments`.
  std::vector<float> floatInput;   ///< Of the sample whose quantized run comes next.
  ChannelSums quantized, reference;
  bool rounded = false;
  RoundedLayer result;
  /// Dequantized, in the layout of `weights`.
  std::vector<float> supplied;

  void forgetInput() {
    moments = heldOut = {};
    cross = {};
    std::vector<float>().swap(floatInput);
  }

  int64_t groups() const { return op.kind == LayerKind::Conv ? op.conv.groups : 1; }

  /// Calls visit(channel, values of it that lie together) for all of the layer's output.
  template <typename Visit>
  void visitChannels(ExchangedTensor y, Visit visit) const {
    int64_t axis = op.kind == LayerKind::Conv ? 1 : int64_t(y.dims.size()) - 1;
    int64_t inner = 1, count = y.count();
    for (int64_t dim : y.dims.drop_front(axis + 1))
      inner *= dim;
    for (int64_t begin = 0; begin < count; begin += inner)
      visit(begin / inner % channels, MutableArrayRef<float>(y.data + begin, size_t(inner)));
  }

  /// From [channels, cols] with the factor to the layout of `weights`.
  void toLayout(std::vector<float> &values) const;
};

void LayerRounder::Layer::toLayout(std::vector<float> &values) const {
  if (op.weightFactor != 1 && op.weightFactor != 0)
    for (float &value : values)
      value /= op.weightFactor;
  if (op.channelAxis() == 0)
    return;
  std::vector<float> turned(values.size());
  for (int64_t k = 0; k < cols; ++k)
    for (int64_t n = 0; n < channels; ++n)
      turned[k * channels + n] = values[n * cols + k];
  values = std::move(turned);
}

/// Lets the system take the pages of a constant back: those of a mapped file cost nothing then.
static void pageOut(ElementsAttr constant) {
  std::optional<ConstantData> data = ConstantData::get(constant);
  if (!data)
    return;
  constexpr uintptr_t page = 4096;
  auto begin = (reinterpret_cast<uintptr_t>(data->bytes().data()) + page - 1) & ~(page - 1),
       end = reinterpret_cast<uintptr_t>(data->bytes().data() + data->bytes().size()) & ~(page - 1);
  if (begin < end)
    madvise(reinterpret_cast<void *>(begin), end - begin, MADV_PAGEOUT);
}

/// Of a layer with this result, for each unit of size: dynamic dims together are the size.
static double rowsOf(Type type, LayerKind kind) {
  auto result = dyn_cast<RankedTensorType>(type);
  if (!result || kind == LayerKind::Gather)
    return 0;
  double rows = 1;
  int64_t axis = kind == LayerKind::Conv ? 1 : result.getRank() - 1;
  for (int64_t d = 0; d < result.getRank(); ++d)
    if (d != axis && !result.isDynamicDim(d))
      rows *= double(result.getDimSize(d));
  return rows;
}

LayerRounder::LayerRounder(const LayerPlan &plan)
    : correctBiases(plan.recipe.correctsBiases()), floatTargets(plan.recipe.comparesWithFloat()) {
  for (const PlannedLayer &planned : plan.layers) {
    const Rule *rule = plan.ruleOf(planned);
    if (!planned.layer || !rule || !rule->weights)
      continue;
    auto layer = std::make_shared<Layer>();
    const QuantizableLayer &from = *planned.layer;
    auto type = cast<RankedTensorType>(from.weight->get().getType());
    layer->name = planned.key.name;
    layer->op = from;
    layer->op.input = layer->op.weight = layer->op.bias = nullptr;
    layer->rule = *rule->weights;
    if (from.kind != LayerKind::Gather)
      layer->activation = rule->activations;
    layer->weights = cast<ElementsAttr>(from.weight->get().getDefiningOp()->getAttr("value"));
    layer->shape = llvm::to_vector(type.getShape());
    layer->channels = type.getDimSize(from.channelAxis());
    layer->cols = type.getNumElements() / layer->channels;
    layer->rows = rowsOf(planned.op->getResult(0).getType(), from.kind);
    pageOut(layer->weights); // Import has read them for the model's hash.
    layers.push_back(std::move(layer));
  }
}

LogicalResult LayerRounder::readPoints(ModuleOp module) {
  llvm::StringMap<size_t> index;
  for (auto [i, layer] : llvm::enumerate(layers))
    index[layer->name] = i;
  llvm::DenseMap<Value, size_t> inputs;
  WalkResult walked = module.walk([&](ExchangeOp op) -> WalkResult {
    auto found = index.find(op.getLayer());
    if (found == index.end())
      return op.emitOpError("of layer '") << op.getLayer() << "', which the recipe does not have";
    size_t layer = found->second;
    ExchangePoint::Role role = op.getRole() == "input"    ? ExchangePoint::Role::Input
                               : op.getRole() == "weight" ? ExchangePoint::Role::Weight
                                                          : ExchangePoint::Role::Output;
    exchangePoints.push_back({role, layer});
    if (role == ExchangePoint::Role::Input)
      inputs[op.getOutput()] = layer;
    if (role == ExchangePoint::Role::Input)
      if (auto scale = op->getAttrOfType<FloatAttr>("scale"))
        layers[layer]->params = {float(scale.getValueAsDouble()),
                                 int32_t(op->getAttrOfType<IntegerAttr>("zero").getInt())};
    return WalkResult::advance();
  });
  if (walked.wasInterrupted())
    return failure();
  // The layers behind each input.
  module.walk([&](ExchangeOp op) {
    if (op.getRole() != "weight")
      return;
    Layer &layer = *layers[index[op.getLayer()]];
    Operation *user = *op->user_begin();
    for (Value operand : user->getOperands())
      if (auto found = inputs.find(operand); found != inputs.end())
        layers[found->second]->sharing.push_back(&layer);
  });
  return success();
}

/// Whether rounding by this algorithm reads the layer's input.
static bool readsInput(const WeightRule &rule) { return needsMoments(rule.algorithm); }

bool LayerRounder::isBarrier(const ExchangePoint &point) const {
  const Layer &layer = *layers[point.layer];
  switch (point.role) {
  case ExchangePoint::Role::Input:
    return llvm::any_of(layer.sharing, [](Layer *other) { return readsInput(other->rule); });
  case ExchangePoint::Role::Weight:
    return false;
  case ExchangePoint::Role::Output:
    return correctBiases;
  }
  return false;
}

void LayerRounder::addRows(Layer &layer, ExchangedTensor x, std::vector<Moments> &moments,
                           bool heldOut) {
  if (moments.empty())
    moments.assign(layer.groups(), Moments(layer.cols));
  bool paired = !heldOut && int64_t(layer.floatInput.size()) == x.count() && x.count() != 0;
  if (paired && layer.cross.empty())
    layer.cross.assign(layer.groups(), CrossMoments(layer.cols));
  const float *reference = paired ? layer.floatInput.data() : nullptr;
  if (layer.op.kind == LayerKind::Linear) {
    int64_t rows = x.count() / layer.cols;
    moments[0].add(x.data, rows, layer.cols);
    if (paired)
      layer.cross[0].add(x.data, reference, rows, layer.cols);
    return;
  }
  PatchGeometry geometry;
  geometry.channels = x.dims[1];
  geometry.groups = layer.op.conv.groups;
  geometry.input.assign(x.dims.begin() + 2, x.dims.end());
  geometry.kernel.assign(layer.shape.begin() + 2, layer.shape.end());
  geometry.strides.assign(layer.op.conv.strides.begin(), layer.op.conv.strides.end());
  geometry.dilations.assign(layer.op.conv.dilations.begin(), layer.op.conv.dilations.end());
  geometry.pads.assign(layer.op.conv.pads.begin(), layer.op.conv.pads.end());
  int64_t rows = geometry.rows(), image = x.count() / std::max<int64_t>(x.dims[0], 1);
  constexpr int64_t chunk = 1024;
  std::vector<float> patches(std::min(rows, chunk) * layer.cols), others(paired ? patches.size() : 0);
  for (int64_t n = 0; n < x.dims[0]; ++n)
    for (int64_t g = 0; g < geometry.groups; ++g)
      for (int64_t begin = 0; begin < rows; begin += chunk) {
        int64_t count = std::min(chunk, rows - begin);
        gatherPatches(x.data + n * image, geometry, g, begin, count, patches.data());
        moments[g].add(patches.data(), count, layer.cols);
        if (!paired)
          continue;
        gatherPatches(reference + n * image, geometry, g, begin, count, others.data());
        layer.cross[g].add(patches.data(), others.data(), count, layer.cols);
      }
}

void LayerRounder::observeFloatInput(const ExchangePoint &point, ExchangedTensor x) {
  Layer &layer = *layers[point.layer];
  if (floatTargets && isBarrier(point))
    layer.floatInput.assign(x.data, x.data + x.count());
}

void LayerRounder::observeInput(const ExchangePoint &point, ExchangedTensor x, bool heldOut) {
  Layer &layer = *layers[point.layer];
  if (layer.activation) {
    const ActivationRule &rule = *layer.activation;
    int64_t count = x.count();
    // Dynamic parameters are those of each row, or of the tensor.
    int64_t row = rule.dynamic == "token" && layer.op.kind == LayerKind::Linear ? layer.cols : count;
    for (int64_t begin = 0; begin < count; begin += row) {
      QuantParams params = layer.params;
      float *values = x.data + begin;
      if (!rule.dynamic.empty()) {
        auto [low, high] = std::minmax_element(values, values + row);
        params = chooseParams(*low, *high, rule.type, rule.symmetric).value_or(params);
      }
      for (int64_t i = 0; i < row; ++i)
        values[i] = dequantize(quantize(values[i], params.scale, params.zero, rule.type),
                               params.scale, params.zero);
    }
  }
  if (isBarrier(point))
    addRows(layer, x, heldOut ? layer.heldOut : layer.moments, heldOut);
  layer.floatInput.clear();
}

bool LayerRounder::finishInput(const ExchangePoint &point, std::string &error) {
  Layer &first = *layers[point.layer];
  malloc_trim(0); // What the runs have freed; rounding needs some.
  for (std::vector<Moments> *moments : {&first.moments, &first.heldOut})
    for (Moments &group : *moments)
      group.finish();
  for (CrossMoments &group : first.cross)
    group.finish();
  for (const Moments &group : first.moments)
    if (!group.finite()) {
      error = "NaN or infinity reaches the input of layer '" + first.name +
              "'; look for it in the data, or for an overflow in the model";
      return false;
    }
  for (Layer *layer : first.sharing)
    if (!round(*layer, first, error))
      return false;
  first.forgetInput();
  return true;
}

bool LayerRounder::round(Layer &layer, const Layer &input, std::string &error) {
  RoundingOptions options = roundingOptions(layer.rule);
  if (!input.heldOut.empty())
    options.heldOut = &input.heldOut;
  if (floatTargets && layer.rule.algorithm == WeightAlgorithm::GPTQ && !input.cross.empty())
    options.cross = &input.cross;
  std::vector<float> matrix = weightMatrix(layer.op, *ConstantData::get(layer.weights));
  std::optional<QuantizedWeights> weights =
      roundWeights(matrix.data(), layer.channels, layer.cols, layer.rule.scheme, options,
                   input.moments, error);
  if (!weights) {
    error = "layer '" + layer.name + "' has weights that cannot be quantized: " + error;
    return false;
  }
  if (options.cross)
    weights->measureErrors(matrix.data());
  std::vector<float>().swap(matrix); // The supplied weights are as large.
  layer.result.weights = std::move(*weights);
  layer.supplied.resize(layer.channels * layer.cols);
  for (int64_t n = 0; n < layer.channels; ++n)
    for (int64_t k = 0; k < layer.cols; ++k)
      layer.supplied[n * layer.cols + k] = layer.result.weights.real(n, k);
  layer.toLayout(layer.supplied);
  layer.rounded = true;
  return true;
}

bool LayerRounder::supplyWeights(const ExchangePoint &point, ExchangedTensor weights, bool isFloat,
                                 std::string &error) {
  Layer &layer = *layers[point.layer];
  if (isFloat) {
    ConstantData data = *ConstantData::get(layer.weights);
    if (data.getType().getElementType().isF32()) {
      llvm::copy(data.as<float>(), weights.data);
      return true;
    }
    llvm::copy(data.toFloats(), weights.data);
    return true;
  }
  if (!layer.rounded && !round(layer, layer, error))
    return false;
  std::copy(layer.supplied.begin(), layer.supplied.end(), weights.data);
  return true;
}

void LayerRounder::dropWeights(const ExchangePoint &point) {
  Layer &layer = *layers[point.layer];
  std::vector<float>().swap(layer.supplied); // An assignment would keep the memory.
  pageOut(layer.weights);
  malloc_trim(0);
}

void LayerRounder::observeOutput(const ExchangePoint &point, ExchangedTensor y, bool isFloat) {
  Layer &layer = *layers[point.layer];
  ChannelSums &sums = isFloat ? layer.reference : layer.quantized;
  sums.sums.resize(layer.channels);
  layer.visitChannels(y, [&](int64_t channel, ArrayRef<float> values) {
    double &sum = sums.sums[channel];
    for (float value : values)
      sum += value;
  });
  sums.count += double(y.count()) / double(layer.channels);
}

void LayerRounder::finishOutput(const ExchangePoint &point) {
  Layer &layer = *layers[point.layer];
  layer.result.biasShift.assign(layer.channels, 0);
  if (layer.quantized.count == 0 || layer.reference.count == 0)
    return;
  for (int64_t n = 0; n < layer.channels; ++n)
    layer.result.biasShift[n] = float(layer.reference.sums[n] / layer.reference.count -
                                      layer.quantized.sums[n] / layer.quantized.count);
}

void LayerRounder::shiftOutput(const ExchangePoint &point, ExchangedTensor y) const {
  const Layer &layer = *layers[point.layer];
  if (layer.result.biasShift.empty())
    return;
  layer.visitChannels(y, [&](int64_t channel, MutableArrayRef<float> values) {
    for (float &value : values)
      value += layer.result.biasShift[channel];
  });
}

RoundedLayers LayerRounder::takeResult() {
  RoundedLayers result;
  for (auto &layer : layers)
    if (layer->rounded)
      result[layer->name] = std::move(layer->result);
  return result;
}

double LayerRounder::runCost(const ExchangePoint &point, double size, bool isFloat) const {
  const Layer &layer = *layers[point.layer];
  double rows = layer.rows * size, cols = double(layer.cols), channels = double(layer.channels);
  switch (point.role) {
  case ExchangePoint::Role::Input:
    return isBarrier(point) && !isFloat ? momentsCost * rows * cols * cols * layer.groups() : 0;
  case ExchangePoint::Role::Weight:
    return cols * channels * (rows + supplyCost);
  case ExchangePoint::Role::Output:
    return 0;
  }
  return 0;
}

double LayerRounder::finishCost(const ExchangePoint &point) const {
  double cost = 0;
  if (point.role == ExchangePoint::Role::Input && isBarrier(point))
    for (const Layer *layer : layers[point.layer]->sharing) {
      double cols = double(layer->cols);
      cost += cols * cols * (factorCost * cols * layer->groups() + roundCost * layer->channels);
    }
  return cost;
}
