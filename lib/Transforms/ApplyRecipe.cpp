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
#include "llvm/ADT/SetVector.h"

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
  void leaveInFloat(const PlannedLayer &planned, const Twine &reason);
  /// Notes what the model itself decided.
  void recordQuantized(const PlannedLayer &planned);

  std::optional<ActivationQuantizer> activations;
  WeightQuantizer weights;
  std::vector<PlannedLayer> withoutStatistics;
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
  if (activation) {
    FailureOr<std::optional<QuantParams>> chosen = activations->params(planned, *activation);
    if (failed(chosen))
      return failure();
    if (!*chosen) {
      withoutStatistics.push_back(planned);
      return success();
    }
    params = *chosen;
  }
  FailureOr<QuantizedWeightOps> quantized = weights.quantize(planned, *rule.weights);
  if (failed(quantized))
    return failure();

  std::string whyNotInteger;
  Operation *end = op;
  OpOperand *bias = findBias(op, layer, end);
  std::optional<Value> integerBias;
  if (params && bias) {
    float factor = end == op ? layer.biasFactor : 1;
    integerBias =
        quantizeBias(op, *bias, factor, quantized->scales, params->scale, channels, whyNotInteger);
    if (!integerBias) {
      params.reset();
      op->emitRemark("layer '") << planned.key.name
                                << "' keeps float activations: " << whyNotInteger;
    }
  }
  replaced.insert(layer.weight->get().getDefiningOp());
  layer.weight->set(quantized->real);
  if (params) {
    layer.input->set(activations->quantize(planned, *params, activation->type));
    ++numInteger;
  }
  if (integerBias) {
    replaced.insert(bias->get().getDefiningOp());
    bias->set(*integerBias);
  } else if (bias && end == op && layer.biasFactor != 1) {
    std::vector<float> values = ConstantData::get(bias->get())->toFloats();
    for (float &value : values)
      value *= layer.biasFactor;
    OpBuilder builder(op);
    bias->set(createConstant(builder, op, builder.getF32Type(),
                             cast<RankedTensorType>(bias->get().getType()).getShape(),
                             ArrayRef(values), "bias"));
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
      text("activations", params ? name(activation->type) : "float"),
      text("rule", rule.origin),
      integer("fp32_bytes", 4 * weightType.getNumElements()),
      integer("bytes", quantized->bytes),
      builder.getNamedAttr("error", builder.getF64FloatAttr(quantized->relativeError)),
      builder.getNamedAttr("max_error", builder.getF64FloatAttr(quantized->maxError))};
  if (!whyNotInteger.empty())
    decision.push_back(text("reason", whyNotInteger));
  setDecision(op, planned.key, decision);
  return success();
}

void ApplyRecipe::runOnOperation() {
  activations.reset();
  weights = WeightQuantizer(rounded);
  withoutStatistics.clear();
  replaced.clear();
  std::optional<LayerPlan> plan = planLayers(getOperation(), recipe);
  if (!plan)
    return signalPassFailure();
  activations.emplace(getOperation(), plan->recipe.calibration);

  for (const PlannedLayer &planned : plan->layers) {
    const Rule *rule = plan->ruleOf(planned);
    if (planned.dequantize)
      recordQuantized(planned);
    else if (!planned.layer)
      leaveInFloat(planned, planned.whyNot);
    else if (!rule)
      leaveInFloat(planned, "no rule of the recipe matches it");
    else if (rule->keep != Rule::Keep::No)
      leaveInFloat(planned, "the recipe keeps it in float (" + rule->origin + ")");
    else if (failed(quantizeLayer(planned, *rule)))
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
