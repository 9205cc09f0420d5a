//===- LayerPlan.cpp - the layers of a model and what a recipe says of them ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/LayerPlan.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringExtras.h"

using namespace lowbit;

std::string lowbit::getLayerOpName(Operation *op) {
  bool isOnnx = op->getName().getDialectNamespace() == "onnx";
  return (isOnnx ? op->getName().stripDialect() : op->getName().getStringRef()).str();
}

OpOperand *lowbit::findBias(Operation *op, const QuantizableLayer &layer, Operation *&end) {
  end = op;
  if (layer.bias || layer.kind != LayerKind::Linear)
    return layer.bias;
  Value result = op->getResult(0);
  if (!result.hasOneUse())
    return nullptr;
  OpOperand &use = *result.use_begin();
  auto add = dyn_cast<onnx::ONNXAddOp>(use.getOwner());
  if (!add)
    return nullptr;
  OpOperand &other = add->getOpOperand(1 - use.getOperandNumber());
  auto type = dyn_cast<RankedTensorType>(other.get().getType());
  auto resultType = dyn_cast<RankedTensorType>(result.getType());
  auto weight = cast<RankedTensorType>(layer.weight->get().getType());
  int64_t channels = weight.getDimSize(layer.channelAxis());
  // One value per channel, broadcast to the result and not beyond it.
  if (!type || !resultType || !type.hasStaticShape() || type.getNumElements() != channels ||
      type.getRank() == 0 || type.getShape().back() != channels ||
      type.getRank() > resultType.getRank())
    return nullptr;
  // A constant, as it is or after quantization.
  Operation *source = other.get().getDefiningOp();
  while (source && source->getNumOperands() > 0 &&
         source->getName().getDialectNamespace() == "lowbit")
    source = source->getOperand(0).getDefiningOp();
  if (!source || !ConstantData::get(source->getResult(0)))
    return nullptr;
  end = add;
  return &other;
}

std::vector<float> lowbit::weightMatrix(const QuantizableLayer &layer, const ConstantData &data) {
  std::vector<float> values = data.toFloats();
  if (layer.channelAxis() == 1) {
    int64_t channels = data.getType().getDimSize(1), cols = data.getType().getDimSize(0);
    std::vector<float> rows(values.size());
    for (int64_t k = 0; k < cols; ++k)
      for (int64_t n = 0; n < channels; ++n)
        rows[n * cols + k] = values[k * channels + n];
    values = std::move(rows);
  }
  if (layer.weightFactor != 1)
    for (float &value : values)
      value *= layer.weightFactor;
  return values;
}

/// Ops whose results the function's results depend on.
static llvm::SetVector<Operation *> liveOps(FunctionOpInterface function) {
  llvm::SetVector<Operation *> live;
  function->walk([&](Operation *op) {
    if (op->hasTrait<OpTrait::IsTerminator>() && op->getParentOp() == function)
      live.insert(op);
  });
  for (size_t i = 0; i < live.size(); ++i)
    live[i]->walk([&](Operation *op) {
      for (Value operand : op->getOperands())
        if (Operation *def = operand.getDefiningOp())
          live.insert(def);
    });
  return live;
}

static PlannedLayer describe(QuantizableOpInterface op) {
  PlannedLayer planned;
  planned.op = op;
  planned.key.name = getLayerName(op);
  planned.key.op = getLayerOpName(op);
  planned.layer = op.getQuantizableLayer(planned.whyNot);
  if (!planned.layer)
    return planned;
  if (!isa<FunctionOpInterface>(op->getParentOp())) {
    planned.layer.reset();
    planned.whyNot = "it is in the body of '" + getLayerName(op->getParentOp()) + "'";
    return planned;
  }
  Value weight = planned.layer->weight->get();
  Value source = weight;
  if (auto expand = weight.getDefiningOp<tensor::ExpandShapeOp>())
    source = expand.getSrc();
  if (auto dequantize = source.getDefiningOp<DequantizeOp>();
      dequantize && ConstantData::get(dequantize.getInput())) {
    planned.dequantize = dequantize;
    weight = dequantize.getInput();
  }
  if (Operation *def = weight.getDefiningOp())
    if (auto name = def->getAttrOfType<StringAttr>("onnx_name"))
      planned.key.weight = name.str();
  if (planned.dequantize) {
    planned.layer.reset();
    planned.whyNot = "the model has quantized it";
  } else if (!ConstantData::get(weight)) {
    planned.layer.reset();
    planned.whyNot = "its weights are not constant";
  } else if (cast<RankedTensorType>(weight.getType()).getNumElements() == 0) {
    planned.layer.reset();
    planned.whyNot = "its weights are empty";
  }
  return planned;
}

std::vector<PlannedLayer> lowbit::findLayers(ModuleOp module) {
  std::vector<PlannedLayer> layers;
  for (auto function : module.getOps<FunctionOpInterface>()) {
    if (function.isExternal())
      continue;
    llvm::SetVector<Operation *> live = liveOps(function);
    size_t begin = layers.size();
    function->walk([&](QuantizableOpInterface op) { layers.push_back(describe(op)); });
    // First and last among the layers that take activations: a table of embeddings is neither.
    auto isCandidate = [&](const PlannedLayer &layer) {
      if (layer.dequantize)
        return !isa<onnx::ONNXGatherOp>(layer.op) && live.contains(layer.op);
      return layer.layer && layer.layer->kind != LayerKind::Gather && live.contains(layer.op);
    };
    auto range = llvm::drop_begin(layers, begin);
    auto first = llvm::find_if(range, isCandidate);
    if (first == range.end())
      continue;
    first->key.first = true;
    llvm::find_if(llvm::reverse(range), isCandidate)->key.last = true;
  }
  return layers;
}

std::vector<const PlannedLayer *> lowbit::requantized(const LayerPlan &plan) {
  std::vector<const PlannedLayer *> layers;
  for (const PlannedLayer &layer : plan.layers)
    if (const Rule *rule = plan.ruleOf(layer))
      if (layer.dequantize && rule->keep == Rule::Keep::No)
        layers.push_back(&layer);
  return layers;
}

std::optional<LayerPlan> lowbit::planLayers(ModuleOp module, StringRef specification) {
  RecipeError error;
  if (specification.empty()) {
    module.emitError("expected a recipe: the pass option recipe=NAME, NAME:key=value,… or a file");
    return std::nullopt;
  }
  std::optional<Recipe> recipe = Recipe::load(specification, error);
  if (!recipe) {
    module.emitError() << error.message;
    return std::nullopt;
  }
  LayerPlan plan{std::move(*recipe), findLayers(module)};
  std::vector<LayerKey> keys;
  llvm::DenseSet<Operation *> seen;
  for (PlannedLayer &layer : plan.layers) {
    layer.rule = plan.recipe.match(layer.key);
    if (!hasLayerName(layer.op))
      layer.op->setAttr("lowbit.layer", StringAttr::get(layer.op->getContext(), layer.key.name));
    keys.push_back(layer.key);
    seen.insert(layer.op);
  }
  std::vector<const PlannedLayer *> twice = requantized(plan);
  if (!twice.empty()) {
    InFlightDiagnostic diag = module.emitError() << "recipe '" << plan.recipe.name
                                                 << "' would quantize again what the model has "
                                                    "quantized already: ";
    llvm::interleaveComma(twice, diag, [&](const PlannedLayer *layer) { diag << layer->key.name; });
    diag.attachNote()
        << "leave the recipe out, or write one whose rules match only layers in float";
    return std::nullopt;
  }
  if (llvm::all_of(plan.recipe.rules, [](const Rule &rule) { return rule.optional; }))
    return plan;
  for (auto function : module.getOps<FunctionOpInterface>())
    function->walk([&](Operation *op) {
      if (op != function && !seen.contains(op) && !op->hasTrait<OpTrait::ConstantLike>() &&
          !isa<onnx::ONNXConstantOp, onnx::ONNXNoValueOp>(op) && op->getNumResults() > 0)
        keys.push_back({getLayerName(op), getLayerOpName(op), ""});
    });
  if (std::optional<RecipeError> unmatched = plan.recipe.findUnmatchedRule(keys)) {
    module.emitError() << unmatched->message;
    return std::nullopt;
  }
  return plan;
}
