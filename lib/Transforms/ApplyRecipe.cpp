//===- ApplyRecipe.cpp - the decisions of a recipe as quantize and dequantize ops ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "LayerConstants.h"
#include "lowbit/Analysis/LayerPlan.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Numerics/Quantize.h"
#include "lowbit/Numerics/RTN.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringMap.h"
#include <cmath>
#include <numeric>

namespace lowbit {
#define GEN_PASS_DEF_APPLYRECIPE
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

/// Signed types are signless in IR, unsigned ones ui8 and ui4.
static IntegerType elementType(MLIRContext *context, IntType type) {
  return IntegerType::get(context, bitWidth(type),
                          isSigned(type) ? IntegerType::Signless : IntegerType::Unsigned);
}

namespace {
/// The weights of one layer in IR.
struct QuantizedWeightOps {
  Value real; ///< The dequantized weights, of the shape of the float ones.
  /// [1] or one per channel; of grouped weights not used.
  std::vector<float> scales;
  double relativeError = 0, maxError = 0;
  int64_t bytes = 0; ///< At the nominal bit width, with scales and zero points.
};

struct ApplyRecipe : public lowbit::impl::ApplyRecipeBase<ApplyRecipe> {
  using ApplyRecipeBase::ApplyRecipeBase;
  void runOnOperation() override;

private:
  LogicalResult quantizeLayer(const PlannedLayer &planned, const Rule &rule);
  FailureOr<QuantizedWeightOps> quantizeWeights(const PlannedLayer &planned, const Scheme &scheme);
  FailureOr<QuantParams> activationParams(const PlannedLayer &planned, const ActivationRule &rule);
  Value quantizeActivation(const PlannedLayer &planned, QuantParams params, IntType type);
  /// The bias as i32 with the scale of the accumulator. Nothing, and IR unchanged, where a value
  /// does not fit.
  std::optional<Value> quantizeBias(Operation *op, OpOperand &bias, float factor,
                                    ArrayRef<float> weightScales, float inputScale,
                                    int64_t channels, std::string &whyNot);
  void leaveInFloat(const PlannedLayer &planned, const Twine &reason);
  /// Notes what the model itself decided.
  void recordQuantized(const PlannedLayer &planned);

  llvm::StringMap<ObserveOp> observers;
  /// Dequantized values by (float value, scale, zero point, type): layers that read the same share
  /// them.
  std::map<std::tuple<void *, float, int32_t, IntType>, Value> activations;
  /// Likewise of weights by (constant, scheme, layout, factor).
  std::vector<std::tuple<Value, Scheme, int64_t, float, QuantizedWeightOps>> weights;
  std::vector<PlannedLayer> withoutStatistics;
  llvm::SetVector<Operation *> replaced; ///< Float constants that may be dead.
};
} // namespace

/// The float matrix [channels, K] of a layer's weights, times its factor.
static std::vector<float> weightMatrix(const QuantizableLayer &layer, const ConstantData &data,
                                       int64_t rows, int64_t cols) {
  std::vector<float> values = data.toFloats();
  if (layer.channelAxis() == 1) {
    std::vector<char> bytes = transposeBytes(
        ArrayRef(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(float)),
        cols, rows);
    std::copy_n(bytes.data(), bytes.size(), reinterpret_cast<char *>(values.data()));
  }
  if (layer.weightFactor != 1)
    for (float &value : values)
      value *= layer.weightFactor;
  return values;
}

FailureOr<QuantizedWeightOps> ApplyRecipe::quantizeWeights(const PlannedLayer &planned,
                                                           const Scheme &scheme) {
  const QuantizableLayer &layer = *planned.layer;
  Value original = layer.weight->get();
  for (auto &[value, otherScheme, axis, factor, ops] : weights)
    if (value == original && otherScheme == scheme && axis == layer.channelAxis() &&
        factor == layer.weightFactor && !(layer.kind == LayerKind::Conv))
      return ops;

  ConstantData data = *ConstantData::get(original);
  RankedTensorType type = data.getType();
  int64_t channelAxis = layer.channelAxis(), rows = type.getDimSize(channelAxis),
          cols = type.getNumElements() / rows;
  std::string error;
  std::optional<QuantizedWeights> quantized =
      rtn(weightMatrix(layer, data, rows, cols).data(), rows, cols, scheme, error);
  if (!quantized) {
    InFlightDiagnostic diag = planned.op->emitOpError("of layer '")
                              << planned.key.name
                              << "' has weights that cannot be quantized: " << error;
    diag.attachNote() << "mend the model, or give the layer a rule with keep: float";
    return diag;
  }

  OpBuilder builder(original.getContext());
  builder.setInsertionPointAfterValue(original);
  MLIRContext *context = builder.getContext();
  IntegerType element = elementType(context, scheme.type);
  bool grouped = scheme.granularity == Scheme::Granularity::Group;
  bool transposed = channelAxis == 1;
  // A filter's groups run over its flattened elements, so it is quantized as a matrix and shaped
  // back.
  bool flattened = grouped && type.getRank() != 2;

  ArrayRef<char> q(reinterpret_cast<const char *>(quantized->q.data()), quantized->q.size());
  std::vector<char> zeros(quantized->zeros.begin(), quantized->zeros.end());
  ArrayRef<char> scales(reinterpret_cast<const char *>(quantized->scales.data()),
                        quantized->scales.size() * sizeof(float));
  std::vector<char> qStorage, scaleStorage;
  SmallVector<int64_t> shape(type.getShape()), scaleShape;
  if (flattened)
    shape = {rows, cols};
  if (transposed) {
    qStorage = transposeBytes(q, rows, cols);
    q = qStorage;
  }
  if (scheme.granularity == Scheme::Granularity::Channel)
    scaleShape = {rows};
  if (grouped) {
    scaleShape = {rows, quantized->groups};
    if (transposed) {
      scaleStorage = transposeBytes(scales, rows, quantized->groups);
      scales = scaleStorage;
      zeros = transposeBytes(zeros, rows, quantized->groups);
      std::swap(scaleShape[0], scaleShape[1]);
    }
  }
  std::string name = planned.key.weight.empty() ? planned.key.name + ".weight" : planned.key.weight;
  Operation *op = planned.op;
  Value constant = createConstant(builder, op, element, shape, q, name);
  Value scale =
      createConstant(builder, op, builder.getF32Type(), scaleShape, scales, name + ".scale");
  Value zero = createConstant(builder, op, element, scaleShape, zeros, name + ".zero");
  IntegerAttr axis;
  if (!scaleShape.empty())
    axis = builder.getI64IntegerAttr(grouped ? (transposed ? 0 : 1) : channelAxis);

  if (!planned.key.weight.empty() && isa<onnx::ONNXConstantOp>(constant.getDefiningOp()))
    constant.getDefiningOp()->setAttr("onnx_name", builder.getStringAttr(name));

  QuantizedWeightOps result;
  result.real = DequantizeOp::create(builder, op->getLoc(),
                                     RankedTensorType::get(shape, builder.getF32Type()), constant,
                                     scale, zero, axis, grouped ? scheme.group : 0);
  if (flattened) {
    SmallVector<ReassociationIndices> reassociation(2);
    reassociation[0] = {0};
    reassociation[1] = llvm::to_vector(llvm::seq<int64_t>(1, type.getRank()));
    result.real =
        tensor::ExpandShapeOp::create(builder, op->getLoc(), type, result.real, reassociation);
  }
  result.scales = quantized->scales;
  result.relativeError = quantized->relativeError;
  result.maxError = quantized->maxError;
  int64_t bits = bitWidth(scheme.type), count = quantized->scales.size();
  result.bytes = (type.getNumElements() * bits + 7) / 8 + count * 4;
  if (!scheme.symmetric)
    result.bytes += (count * bits + 7) / 8;
  weights.emplace_back(original, scheme, channelAxis, layer.weightFactor, result);
  return result;
}

FailureOr<QuantParams> ApplyRecipe::activationParams(const PlannedLayer &planned,
                                                     const ActivationRule &rule) {
  auto found = observers.find(planned.key.name + ":input");
  if (found == observers.end() || !found->second.getStatsAttr())
    return failure();
  StatsAttr stats = found->second.getStatsAttr();
  return *chooseParams(stats.getMin().getValueAsDouble(), stats.getMax().getValueAsDouble(),
                       rule.type, rule.symmetric);
}

Value ApplyRecipe::quantizeActivation(const PlannedLayer &planned, QuantParams params,
                                      IntType type) {
  Value input = planned.layer->input->get();
  Value &real = activations[{input.getAsOpaquePointer(), params.scale, params.zero, type}];
  if (real)
    return real;
  OpBuilder builder(planned.op->getContext());
  builder.setInsertionPointAfterValue(input);
  Location loc = planned.op->getLoc();
  IntegerType element = elementType(builder.getContext(), type);
  char zeroByte = char(params.zero);
  Value scale = createConstant(builder, planned.op, builder.getF32Type(), {},
                               ArrayRef<float>(params.scale), "scale");
  Value zero = createConstant(builder, planned.op, element, {}, ArrayRef<char>(zeroByte), "zero");
  auto inputType = cast<RankedTensorType>(input.getType());
  Value q = QuantizeOp::create(builder, loc, inputType.clone(element), input, scale, zero,
                               IntegerAttr(), 0);
  real = DequantizeOp::create(builder, loc, inputType, q, scale, zero, IntegerAttr(), 0);
  return real;
}

std::optional<Value> ApplyRecipe::quantizeBias(Operation *op, OpOperand &bias, float factor,
                                               ArrayRef<float> weightScales, float inputScale,
                                               int64_t channels, std::string &whyNot) {
  std::optional<ConstantData> data = ConstantData::get(bias.get());
  if (!data || !data->getType().getElementType().isF32()) {
    whyNot = "its bias is not a f32 constant";
    return std::nullopt;
  }
  std::vector<float> values = data->toFloats(), scales(channels);
  std::vector<int32_t> quantized(channels), zeros(channels, 0);
  for (int64_t n = 0; n < channels; ++n) {
    double exact = double(inputScale) * double(weightScales[weightScales.size() == 1 ? 0 : n]);
    scales[n] = float(exact);
    double q = std::nearbyint(double(values[n]) * factor / exact);
    // The accumulator needs the other half of the range.
    if (!(std::fabs(q) < double(1 << 30))) {
      whyNot =
          "bias " + std::to_string(n) + " does not fit 32-bit integers of the accumulator's scale";
      return std::nullopt;
    }
    quantized[n] = int32_t(q);
  }
  OpBuilder builder(op->getContext());
  builder.setInsertionPointAfterValue(bias.get());
  MLIRContext *context = op->getContext();
  auto type = cast<RankedTensorType>(bias.get().getType());
  // Rank 1 or 1x…xN as it was.
  Type i32 = IntegerType::get(context, 32);
  std::string name = "bias";
  Value constant = createConstant(builder, op, i32, type.getShape(), ArrayRef(quantized), name);
  Value scale =
      createConstant(builder, op, builder.getF32Type(), {channels}, ArrayRef(scales), name);
  Value zero = createConstant(builder, op, i32, {channels}, ArrayRef(zeros), name);
  return DequantizeOp::create(builder, op->getLoc(), type, constant, scale, zero,
                              builder.getI64IntegerAttr(type.getRank() - 1), 0)
      .getResult();
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
    FailureOr<QuantParams> chosen = activationParams(planned, *activation);
    if (failed(chosen)) {
      withoutStatistics.push_back(planned);
      return success();
    }
    params = *chosen;
  }
  FailureOr<QuantizedWeightOps> quantized = quantizeWeights(planned, scheme);
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
    layer.input->set(quantizeActivation(planned, *params, activation->type));
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
  observers.clear();
  activations.clear();
  weights.clear();
  withoutStatistics.clear();
  replaced.clear();
  std::optional<LayerPlan> plan = planLayers(getOperation(), recipe);
  if (!plan)
    return signalPassFailure();
  getOperation()->walk([&](ObserveOp op) { observers[op.getName()] = op; });

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
  for (auto &entry : observers)
    entry.second.erase();
  for (Operation *constant : replaced)
    if (constant->use_empty())
      constant->erase();
}
