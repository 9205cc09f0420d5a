//===- ApplyRecipe.cpp - the decisions of a recipe as quantize and dequantize ops ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "LayerConstants.h"
#include "QuantizeLayer.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "lowbit/Recipe/Rounding.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringExtras.h"

namespace lowbit {
#define GEN_PASS_DEF_APPLYRECIPE
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct ApplyRecipe : public lowbit::impl::ApplyRecipeBase<ApplyRecipe> {
  using ApplyRecipeBase::ApplyRecipeBase;
  void runOnOperation() override;

  const RoundedLayers *rounded = nullptr;

private:
  LogicalResult quantizeLayer(const PlannedLayer &planned, const Rule &rule);
  LogicalResult halveLayer(const PlannedLayer &planned, const Rule &rule);
  void leaveInFloat(const PlannedLayer &planned, const Twine &reason);
  /// Multiplies the layer's own float bias by its factor.
  void scaleBias(const QuantizableLayer &layer, Operation *op, OpOperand &bias);
  /// Notes what the model itself decided.
  void recordQuantized(const PlannedLayer &planned);

  std::optional<ActivationQuantizer> activations;
  WeightQuantizer weights;
  bool correctsBiases = false; ///< By the means of the layers' inputs.
  std::vector<PlannedLayer> withoutStatistics, withoutTokens;
  llvm::SetVector<Operation *> replaced; ///< Float constants that may be dead.
};
} // namespace

std::unique_ptr<Pass> lowbit::createApplyRecipe(const ApplyRecipeOptions &options,
                                                const RoundedLayers *rounded) {
  auto pass = std::make_unique<ApplyRecipe>(options);
  pass->rounded = rounded;
  return pass;
}

static void setDecision(Operation *op, const LayerKey &key, ArrayRef<NamedAttribute> attributes) {
  Builder builder(op->getContext());
  SmallVector<NamedAttribute> all(attributes);
  all.push_back(builder.getNamedAttr("name", builder.getStringAttr(key.name)));
  all.push_back(builder.getNamedAttr("op", builder.getStringAttr(key.op)));
  op->setAttr("lowbit.decision", builder.getDictionaryAttr(all));
}

void ApplyRecipe::leaveInFloat(const PlannedLayer &planned, const Twine &reason) {
  Builder builder(planned.op->getContext());
  setDecision(planned.op, planned.key,
              {builder.getNamedAttr("weights", builder.getStringAttr("float")),
               builder.getNamedAttr("quantizable", builder.getBoolAttr(planned.layer.has_value())),
               builder.getNamedAttr("reason", builder.getStringAttr(reason))});
  ++numFloat;
}

/// "i8" of i8, "u4" of ui4.
static std::string typeName(Type element) {
  auto type = cast<IntegerType>(element);
  return (type.isUnsigned() ? "u" : "i") + std::to_string(type.getWidth());
}

/// The type of the model's own 8-bit activations of a layer; "float" where it has none.
static std::string activationType(Operation *op, Operation *weights) {
  for (Value operand : op->getOperands()) {
    auto input = operand.getDefiningOp<DequantizeOp>();
    if (input && input != weights && !ConstantData::get(input.getInput()))
      return typeName(cast<ShapedType>(input.getInput().getType()).getElementType());
  }
  return "float";
}

void ApplyRecipe::recordQuantized(const PlannedLayer &planned) {
  auto weights = cast<DequantizeOp>(planned.dequantize);
  auto type = cast<RankedTensorType>(weights.getInput().getType());
  int64_t count = cast<RankedTensorType>(weights.getScale().getType()).getNumElements(),
          bits = type.getElementTypeBitWidth(), bytes = (type.getNumElements() * bits + 7) / 8;
  bytes += count * 4;
  std::optional<ConstantData> zero = ConstantData::get(weights.getZero());
  if (!zero || llvm::any_of(zero->bytes(), [](char byte) { return byte != 0; }))
    bytes += (count * bits + 7) / 8;
  Builder builder(planned.op->getContext());
  auto text = [&](StringRef key, const Twine &value) {
    return builder.getNamedAttr(key, builder.getStringAttr(value));
  };
  auto integer = [&](StringRef key, int64_t value) {
    return builder.getNamedAttr(key, builder.getI64IntegerAttr(value));
  };
  setDecision(planned.op, planned.key,
              {text("weights", typeName(type.getElementType())),
               text("per", weights.getGroup()      ? "group"
                           : weights.getAxisAttr() ? "channel"
                                                   : "tensor"),
               integer("group", weights.getGroup()),
               text("activations", activationType(planned.op, weights)), text("rule", "the model"),
               integer("fp32_bytes", 4 * type.getNumElements()), integer("bytes", bytes)});
  ++numQuantized;
}

static bool isF32Tensor(Value value) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  return type && type.getElementType().isF32() && type.getRank() > 0;
}

void ApplyRecipe::scaleBias(const QuantizableLayer &layer, Operation *op, OpOperand &bias) {
  if (layer.biasFactor == 1)
    return;
  std::vector<float> values = ConstantData::get(bias.get())->toFloats();
  for (float &value : values)
    value *= layer.biasFactor;
  OpBuilder builder(op);
  bias.set(createConstant(builder, op, builder.getF32Type(),
                          cast<RankedTensorType>(bias.get().getType()).getShape(),
                          ArrayRef(values), "bias"));
}

LogicalResult ApplyRecipe::halveLayer(const PlannedLayer &planned, const Rule &rule) {
  const QuantizableLayer &layer = *planned.layer;
  Operation *op = planned.op;
  auto type = cast<RankedTensorType>(layer.weight->get().getType());
  if (!type.getElementType().isF32()) {
    leaveInFloat(planned, "the recipe keeps it in float (" + rule.origin + ")");
    return success();
  }
  FailureOr<QuantizedWeightOps> half = halveWeights(planned);
  if (failed(half))
    return failure();
  replaced.insert(layer.weight->get().getDefiningOp());
  layer.weight->set(half->real);
  if (layer.bias)
    scaleBias(layer, op, *layer.bias);
  cast<QuantizableOpInterface>(op).clearFactors();
  ++numHalf;
  Builder builder(op->getContext());
  auto entry = [&](StringRef key, Attribute value) { return builder.getNamedAttr(key, value); };
  setDecision(op, planned.key,
              {entry("weights", builder.getStringAttr("f16")),
               entry("per", builder.getStringAttr("tensor")),
               entry("group", builder.getI64IntegerAttr(0)),
               entry("activations", builder.getStringAttr("float")),
               entry("rule", builder.getStringAttr(rule.origin)),
               entry("fp32_bytes", builder.getI64IntegerAttr(4 * type.getNumElements())),
               entry("bytes", builder.getI64IntegerAttr(half->bytes)),
               entry("error", builder.getF64FloatAttr(half->relativeError)),
               entry("max_error", builder.getF64FloatAttr(half->maxError))});
  return success();
}

LogicalResult ApplyRecipe::quantizeLayer(const PlannedLayer &planned, const Rule &rule) {
  const QuantizableLayer &layer = *planned.layer;
  Operation *op = planned.op;
  const Scheme &scheme = rule.weights->scheme;
  auto weightType = cast<RankedTensorType>(layer.weight->get().getType());
  int64_t channels = weightType.getDimSize(layer.channelAxis());
  std::optional<ActivationRule> activation = rule.activations;
  if (layer.kind == LayerKind::Gather)
    activation.reset();
  std::optional<QuantParams> params;
  bool isDynamic = activation && !activation->dynamic.empty();
  if (isDynamic && activation->dynamic == "token" && layer.kind == LayerKind::Conv) {
    withoutTokens.push_back(planned);
    return success();
  }
  std::string whyNotInteger;
  if (isDynamic && !isF32Tensor(layer.input->get())) {
    whyNotInteger = "its input is no tensor of f32";
    op->emitRemark("layer '") << planned.key.name
                              << "' keeps float activations: " << whyNotInteger;
    isDynamic = false;
    activation.reset();
  }
  if (activation && !isDynamic) {
    FailureOr<std::optional<QuantParams>> chosen = activations->params(planned, *activation);
    if (failed(chosen))
      return failure();
    if (!*chosen) {
      withoutStatistics.push_back(planned);
      return success();
    }
    params = *chosen;
  }
  std::vector<float> means;
  // The mean input of a MatMul says little about its tokens, and a bias would be one more op: there
  // the correction did harm where it was measured (docs/quantization.md).
  if (correctsBiases && (layer.kind == LayerKind::Conv || isa<onnx::ONNXGemmOp>(op))) {
    means = activations->channelMeans(planned);
    // Statistics that a person wrote may be no more than a range; the decision then says that the
    // bias is not corrected.
    if (means.empty() && !params) {
      withoutStatistics.push_back(planned);
      return success();
    }
  }
  FailureOr<QuantizedWeightOps> quantized = weights.quantize(
      planned, *rule.weights, means,
      activations->moments(planned, weightType.getNumElements() / channels));
  if (failed(quantized))
    return failure();
  auto known = rounded ? rounded->find(planned.key.name) : RoundedLayers::const_iterator();
  ArrayRef<float> shift = quantized->biasShift;
  if (rounded && known != rounded->end() && !known->second.biasShift.empty())
    shift = known->second.biasShift;
  bool biasShifted = !shift.empty() && shiftBias(planned, shift);

  Operation *end = op;
  OpOperand *bias = findBias(op, layer, end);
  std::optional<Value> integerBias;
  if (params && bias && hasAccumulatorBias(layer.kind, scheme, activation->type)) {
    float factor = end == op ? layer.biasFactor : 1;
    std::string whyNot;
    integerBias =
        quantizeBias(op, *bias, factor, quantized->scales, params->scale, channels, whyNot);
    if (!integerBias)
      op->emitRemark("layer '") << planned.key.name
                                << "' adds its bias in float: " << whyNot;
  }
  replaced.insert(layer.weight->get().getDefiningOp());
  if (isDynamic)
    layer.input->set(activations->quantizeDynamically(planned, *activation));
  else if (params)
    layer.input->set(activations->quantize(planned, *params, activation->type));
  layer.weight->set(quantized->real);
  numInteger += activation.has_value();
  if (integerBias) {
    replaced.insert(bias->get().getDefiningOp());
    bias->set(*integerBias);
  } else if (bias && end == op) {
    scaleBias(layer, op, *bias);
  }
  cast<QuantizableOpInterface>(op).clearFactors();
  ++numQuantized;

  Builder builder(op->getContext());
  auto text = [&](StringRef key, StringRef value) {
    return builder.getNamedAttr(key, builder.getStringAttr(value));
  };
  auto integer = [&](StringRef key, int64_t value) {
    return builder.getNamedAttr(key, builder.getI64IntegerAttr(value));
  };
  static constexpr StringRef granularities[] = {"tensor", "channel", "group"};
  SmallVector<NamedAttribute> decision = {
      text("weights", name(scheme.type)),
      text("per", granularities[size_t(scheme.granularity)]),
      integer("group", scheme.group),
      text("activations", activation ? name(activation->type) : "float"),
      text("rule", rule.origin),
      integer("fp32_bytes", 4 * weightType.getNumElements()),
      integer("bytes", quantized->bytes),
      builder.getNamedAttr("error", builder.getF64FloatAttr(quantized->relativeError)),
      builder.getNamedAttr("max_error", builder.getF64FloatAttr(quantized->maxError)),
      text("scales_sha256", quantized->scalesHash),
      builder.getNamedAttr("bits_per_weight",
                           builder.getF64FloatAttr(8.0 * double(quantized->bytes) /
                                                   double(weightType.getNumElements()))),
      text("algorithm", algorithmName(rule.weights->algorithm)),
      builder.getNamedAttr("bias_corrected", builder.getBoolAttr(biasShifted))};
  const RoundingReport &report = quantized->report;
  for (auto [key, value] : {std::pair("output_error", report.outputError),
                            {"rtn_output_error", report.rtnOutputError},
                            {"held_out_error", report.heldOutError},
                            {"rtn_held_out_error", report.rtnHeldOutError}})
    if (value)
      decision.push_back(builder.getNamedAttr(key, builder.getF64FloatAttr(*value)));
  if (!report.notes.empty()) {
    std::string notes = llvm::join(report.notes, "; ");
    decision.push_back(text("note", notes));
    op->emitRemark("layer '") << planned.key.name << "': " << notes;
  }
  if (isDynamic)
    decision.push_back(text("dynamic", activation->dynamic));
  if (!whyNotInteger.empty())
    decision.push_back(text("reason", whyNotInteger));
  setDecision(op, planned.key, decision);
  return success();
}

void ApplyRecipe::runOnOperation() {
  activations.reset();
  weights = WeightQuantizer(rounded);
  withoutStatistics.clear();
  withoutTokens.clear();
  replaced.clear();
  std::optional<LayerPlan> plan = planLayers(getOperation(), recipe);
  if (!plan)
    return signalPassFailure();
  activations.emplace(getOperation(), plan->recipe.calibration);

  const GraphTransform *correction = plan->recipe.findTransform("bias-correction");
  correctsBiases = correction && correction->options.at("method") == "analytic";
  for (const PlannedLayer &planned : plan->layers) {
    const Rule *rule = plan->ruleOf(planned);
    if (planned.dequantize)
      recordQuantized(planned);
    else if (!planned.layer)
      leaveInFloat(planned, planned.whyNot);
    else if (!rule)
      leaveInFloat(planned, "no rule of the recipe matches it");
    else if (rule->keep == Rule::Keep::Half && failed(halveLayer(planned, *rule)))
      return signalPassFailure();
    else if (rule->keep == Rule::Keep::Half)
      continue;
    else if (rule->keep == Rule::Keep::Float)
      leaveInFloat(planned, "the recipe keeps it in float (" + rule->origin + ")");
    else if (failed(quantizeLayer(planned, *rule)))
      return signalPassFailure();
  }
  if (!withoutTokens.empty()) {
    InFlightDiagnostic diag = withoutTokens.front().op->emitError()
                              << "recipe '" << plan->recipe.name
                              << "' takes a range per token, and convolutions have no tokens: ";
    llvm::interleaveComma(withoutTokens, diag,
                          [&](const PlannedLayer &layer) { diag << layer.key.name; });
    diag.attachNote() << "give them a rule with activations: {type: u8, dynamic: tensor}";
    return signalPassFailure();
  }
  if (!withoutStatistics.empty()) {
    const PlannedLayer &first = withoutStatistics.front();
    InFlightDiagnostic diag = first.op->emitOpError("of layer '")
                              << first.key.name
                              << "' has no statistics of its activations, which recipe '"
                              << plan->recipe.name << "' quantizes";
    if (withoutStatistics.size() > 1)
      diag << "; neither have " << withoutStatistics.size() - 1 << " other layers";
    diag.attachNote()
        << "calibrate the model with this recipe: lowbit calibrate MODEL --recipe … --data … -o "
           "CAL; in a pipeline, lowbit-insert-observers and lowbit-load-calibration{file=CAL}";
    return signalPassFailure();
  }
  activations->eraseObservers();
  for (Operation *constant : replaced)
    if (constant->use_empty())
      constant->erase();
}
