//===- FuseQDQ.cpp - float ops between dequantize and quantize become quantized ops ---*- C++
//-*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "LayerConstants.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Analysis/LayerPlan.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/TypeUtilities.h"
#include <algorithm>
#include <functional>

namespace lowbit {
#define GEN_PASS_DEF_FUSEQDQ
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
/// Constant weights as a pivot op takes them: rows are output channels.
struct PivotWeights {
  Type element;
  SmallVector<int64_t> shape, scaleShape;
  std::vector<char> q, scale, zero; ///< As in ConstantData.
  int64_t group = 0;
  bool symmetric = false; ///< All zero points are 0.
};

struct FuseQDQ : public lowbit::impl::FuseQDQBase<FuseQDQ> {
  using FuseQDQBase::FuseQDQBase;
  void runOnOperation() override;

private:
  /// `source`: the lowbit.dequantize, or the conversion from f16, that gives the layer's weights.
  LogicalResult fuse(QuantizableOpInterface op, Operation *source, std::string &whyNot);
};
} // namespace

/// The dequantize op behind a weight operand, through a reshape.
static DequantizeOp dequantizeOf(Value weight) {
  if (auto reshape = weight.getDefiningOp<tensor::ExpandShapeOp>())
    weight = reshape.getSrc();
  auto op = weight.getDefiningOp<DequantizeOp>();
  return op && ConstantData::get(op.getInput()) ? op : DequantizeOp();
}

/// The conversion of a f16 constant to f32 behind a weight operand.
static Operation *halfOf(Value weight) {
  Operation *op = weight.getDefiningOp();
  if (!op || !isa<onnx::ONNXCastOp, arith::ExtFOp>(op) || !getElementTypeOrSelf(weight).isF32() ||
      !getElementTypeOrSelf(op->getOperand(0)).isF16() || !ConstantData::get(op->getOperand(0)))
    return nullptr;
  return op;
}

static std::vector<char> copy(ArrayRef<char> bytes) { return {bytes.begin(), bytes.end()}; }

/// Rows become output channels, of filters with a dimension for the channels of a group.
static void orient(PivotWeights &weights, const QuantizableLayer &layer) {
  int64_t rank = weights.shape.size();
  if (layer.channelAxis() == 1) {
    weights.q = transposeBytes(weights.q, weights.shape[0], weights.shape[1]);
    std::swap(weights.shape[0], weights.shape[1]);
    if (weights.group) {
      weights.scale = transposeBytes(weights.scale, weights.scaleShape[0], weights.scaleShape[1]);
      weights.zero = transposeBytes(weights.zero, weights.scaleShape[0], weights.scaleShape[1]);
      std::swap(weights.scaleShape[0], weights.scaleShape[1]);
    }
  }
  // A depthwise op of linalg has one filter per channel and no dimension for it.
  if (layer.kind == LayerKind::Conv && rank == int64_t(layer.conv.strides.size()) + 1)
    weights.shape.insert(weights.shape.begin() + 1, 1);
}

static std::optional<PivotWeights> pivotWeights(const QuantizableLayer &layer, DequantizeOp op,
                                                std::string &whyNot) {
  std::optional<ConstantData> q = ConstantData::get(op.getInput()),
                              scale = ConstantData::get(op.getScale()),
                              zero = ConstantData::get(op.getZero());
  if (!q || !scale || !zero) {
    whyNot = "the parameters of its weights are not constant";
    return std::nullopt;
  }
  if (q->getType().getNumElements() == 0) {
    whyNot = "its weights are empty";
    return std::nullopt;
  }
  PivotWeights weights;
  weights.element = q->getType().getElementType();
  weights.shape = llvm::to_vector(cast<RankedTensorType>(layer.weight->get().getType()).getShape());
  weights.scaleShape = llvm::to_vector(scale->getType().getShape());
  weights.q = copy(q->bytes());
  weights.scale = copy(scale->bytes());
  weights.zero = copy(zero->bytes());
  weights.group = op.getGroup();
  weights.symmetric = llvm::all_of(weights.zero, [](char byte) { return byte == 0; });

  int64_t channelAxis = layer.channelAxis();
  int64_t qRank = q->getType().getRank();
  if (op.getAxis()) {
    // Of a matrix, groups run along the other axis; of filters only along the flattened matrix.
    bool isMatrix = qRank == 2;
    int64_t expected = weights.group == 0 ? channelAxis : 1 - channelAxis;
    if (int64_t(*op.getAxis()) != expected || (weights.group && !isMatrix)) {
      whyNot = "the scales of its weights run along axis " + std::to_string(*op.getAxis());
      return std::nullopt;
    }
  }
  orient(weights, layer);
  return weights;
}

/// Half-precision weights: what they stand for, with a scale of 1.
static std::optional<PivotWeights> halfWeights(const QuantizableLayer &layer, Operation *source) {
  std::optional<ConstantData> data = ConstantData::get(source->getOperand(0));
  PivotWeights weights;
  weights.element = data->getType().getElementType();
  weights.shape = llvm::to_vector(data->getType().getShape());
  weights.q = copy(data->bytes());
  float one = 1;
  weights.scale = copy(ArrayRef(reinterpret_cast<const char *>(&one), sizeof(one)));
  weights.symmetric = true;
  orient(weights, layer);
  return weights;
}

/// Weights less their zero points, as symmetric i8 ones of the same scales. Differences that
/// are no i8 are the sum of two that are: each row then holds the first parts and after them the
/// second ones, which `twice` says; where that is null, or one part more would be needed, false,
/// and nothing changed.
static bool makeSymmetric(PivotWeights &weights, bool *twice) {
  bool isUnsigned = weights.element.isUnsignedInteger(), isMatrix = weights.shape.size() == 2;
  unsigned width = weights.element.getIntOrFloatBitWidth();
  // Matrices of 4 bits have kernels that read them as they are, and float activations.
  if (weights.group != 0 || width > 8 || (width < 8 && isMatrix))
    return false;
  if (weights.symmetric && !isUnsigned && width == 8)
    return true;
  auto read = [&](char byte) { return isUnsigned ? int(uint8_t(byte)) : int(int8_t(byte)); };
  size_t rows = weights.shape[0], cols = rows ? weights.q.size() / rows : 0;
  bool perRow = weights.zero.size() == rows, fits = true;
  std::vector<char> first(weights.q.size()), second(weights.q.size());
  for (size_t i = 0; i < first.size(); ++i) {
    int difference = read(weights.q[i]) - read(weights.zero[perRow ? i / cols : 0]);
    int part = std::clamp(difference, -128, 127);
    if (difference - part < -128 || difference - part > 127)
      return false;
    first[i] = char(part);
    second[i] = char(difference - part);
    fits &= difference == part;
  }
  if (!fits && !twice)
    return false;
  if (!fits) {
    std::vector<char> both;
    both.reserve(2 * first.size());
    for (size_t row = 0; row < rows; ++row)
      for (const std::vector<char> &part : {std::cref(first), std::cref(second)})
        both.insert(both.end(), part.begin() + row * cols, part.begin() + (row + 1) * cols);
    first = std::move(both);
    weights.shape[1] *= 2;
    *twice = true;
  }
  weights.q = std::move(first);
  weights.zero.assign(weights.zero.size(), 0);
  weights.element = IntegerType::get(weights.element.getContext(), 8);
  return weights.symmetric = true;
}

/// The i32 bias behind `bias`, where it is dequantized with the scales of the accumulator of an
/// integer layer and leaves the accumulator the other half of its range.
static std::optional<ConstantData> integerBias(Value bias, float inputScale,
                                               const PivotWeights &weights, int64_t channels) {
  auto op = bias.getDefiningOp<DequantizeOp>();
  if (!op || !cast<ShapedType>(op.getInput().getType()).getElementType().isSignlessInteger(32))
    return std::nullopt;
  std::optional<ConstantData> q = ConstantData::get(op.getInput()),
                              scale = ConstantData::get(op.getScale()),
                              zero = ConstantData::get(op.getZero());
  if (!q || !scale || !zero || !llvm::all_of(zero->toInts(), [](int64_t z) { return z == 0; }))
    return std::nullopt;
  std::vector<float> biasScales = scale->toFloats();
  ArrayRef<float> weightScales(reinterpret_cast<const float *>(weights.scale.data()),
                               weights.scale.size() / sizeof(float));
  for (int64_t n = 0; n < channels; ++n) {
    float expected =
        float(double(inputScale) * double(weightScales[weightScales.size() == 1 ? 0 : n]));
    if (biasScales[biasScales.size() == 1 ? 0 : n] != expected)
      return std::nullopt;
  }
  if (llvm::any_of(q->toInts(), [](int64_t b) { return b >= 1 << 30 || b <= -(1 << 30); }))
    return std::nullopt;
  return q;
}

/// The float sum of a layer's result and its bias.
static Value addBias(OpBuilder &builder, Value result, Value bias, const QuantizableLayer &layer,
                     const std::string &name) {
  auto type = cast<RankedTensorType>(bias.getType());
  if (int64_t spatial = layer.conv.strides.size(); layer.kind == LayerKind::Conv) {
    SmallVector<int64_t> shape(1 + spatial, 1);
    shape[0] = type.getDimSize(0);
    SmallVector<ReassociationIndices> all(1);
    all[0] = llvm::to_vector(llvm::seq<int64_t>(0, 1 + spatial));
    bias = tensor::ExpandShapeOp::create(builder, bias.getLoc(), type.clone(shape), bias, all);
  }
  auto add = onnx::ONNXAddOp::create(builder, result.getLoc(), result.getType(), result, bias);
  add->setAttr("onnx_node_name", builder.getStringAttr(name + "/bias"));
  return add.getResult();
}

/// Where the layer's activations are quantized and it computes in float all the same (`reason` is
/// not empty), its decision says so.
static void noteFloat(Operation *op, StringRef reason) {
  auto decision = op->getAttrOfType<DictionaryAttr>("lowbit.decision");
  if (!decision || reason.empty())
    return;
  NamedAttrList entries(decision);
  auto activations = dyn_cast_or_null<StringAttr>(entries.get("activations"));
  auto rule = dyn_cast_or_null<StringAttr>(entries.get("rule"));
  if (!rule || !activations || activations.getValue() == "float")
    return;
  Builder builder(op->getContext());
  // What the recipe decided stays, with how it is computed.
  bool isModels = rule.getValue() == "the model";
  entries.set(isModels ? "activations" : "computes", builder.getStringAttr("float"));
  entries.set("reason", builder.getStringAttr(reason));
  op->setAttr("lowbit.decision", entries.getDictionary(op->getContext()));
}

static bool isPerTensor(Value scale) { return cast<ShapedType>(scale.getType()).getRank() == 0; }

/// One scale per index of all dimensions but the last.
static bool isPerRow(DequantizeOp input) {
  auto scale = cast<RankedTensorType>(input.getScale().getType());
  return input.getGroup() && input.getAxis() == uint64_t(scale.getRank() - 1) &&
         scale.getShape().back() == 1;
}

/// Whether all weights less their zero points are i8, what kernels multiply 8-bit activations with.
static bool fitsSigned(const PivotWeights &weights) {
  if (weights.element.getIntOrFloatBitWidth() < 8)
    return true;
  bool isUnsigned = weights.element.isUnsignedInteger();
  auto read = [&](char byte) { return isUnsigned ? int(uint8_t(byte)) : int(int8_t(byte)); };
  int64_t rows = weights.shape[0], cols = int64_t(weights.q.size()) / rows,
          count = weights.zero.size();
  for (int64_t i = 0; i < rows * cols; ++i) {
    int64_t row = i / cols, at = count == 1 ? 0 : row;
    if (weights.group)
      at = row * (count / rows) + i % cols / weights.group;
    int difference = read(weights.q[i]) - read(weights.zero[at]);
    if (difference < -128 || difference > 127)
      return false;
  }
  return true;
}

namespace {
/// How a layer on a dequantized input computes.
enum class Arithmetic { Float, Integer, FloatSums };
} // namespace

/// Makes weights symmetric where that brings the layer to the integer form. Float, with the reason
/// in `whyNot`, where the integers of its input cannot be used.
static Arithmetic chooseArithmetic(const QuantizableLayer &layer, DequantizeOp input,
                                   PivotWeights &weights, bool *twice, std::string &whyNot) {
  Type element = cast<ShapedType>(input.getInput().getType()).getElementType();
  bool isLinear = layer.kind == LayerKind::Linear, perRow = isPerRow(input);
  bool is16 = element.isInteger(16);
  if (!(isPerTensor(input.getScale()) || (perRow && isLinear)) || !(element.isInteger(8) || is16))
    whyNot = "its activations are not 8- or 16-bit integers with one scale (of a linear layer: or "
             "one per row)";
  else if (isa<FloatType>(weights.element))
    whyNot = "its weights are half precision";
  else if (makeSymmetric(weights, perRow || is16 ? nullptr : twice))
    return perRow || is16 ? Arithmetic::FloatSums : Arithmetic::Integer;
  else if (isLinear && (is16 || fitsSigned(weights)))
    return Arithmetic::FloatSums;
  else
    whyNot = isLinear ? "its weights less their zero points do not fit i8"
                      : "its weights are not 8-bit integers with one scale per channel that fit i8 "
                        "less their zero points";
  return Arithmetic::Float;
}

LogicalResult FuseQDQ::fuse(QuantizableOpInterface op, Operation *source, std::string &whyNot) {
  std::optional<QuantizableLayer> layer = op.getQuantizableLayer(whyNot);
  if (!layer)
    return failure();
  if (layer->weightFactor != 1 || layer->biasFactor != 1) {
    whyNot = "its factors alpha and beta are not 1";
    return failure();
  }
  auto dequantize = dyn_cast<DequantizeOp>(source);
  std::optional<PivotWeights> weights =
      dequantize ? pivotWeights(*layer, dequantize, whyNot) : halfWeights(*layer, source);
  if (!weights)
    return failure();
  int64_t channels = weights->shape[0];
  Operation *end = op;
  OpOperand *biasUse = findBias(op, *layer, end);

  // The integer form needs a per-tensor 8-bit input and weights that are symmetric i8 or can be
  // made so; a linear layer takes more with sums in float.
  DequantizeOp input;
  std::optional<ConstantData> accumulatorBias;
  bool twice = false; // The weights hold two parts: the input is repeated along K.
  bool canRepeat = isa<onnx::ONNXDialect>(op->getDialect()) && weights->shape.size() > 1 &&
                   (layer->kind == LayerKind::Linear ||
                    (layer->kind == LayerKind::Conv && layer->conv.groups == 1));
  bool biasAfter = false; // In float, after the integer layer: its scale is not the accumulator's.
  if (layer->kind != LayerKind::Gather)
    input = layer->input->get().getDefiningOp<DequantizeOp>();
  Arithmetic arithmetic = Arithmetic::Float;
  if (input)
    arithmetic = chooseArithmetic(*layer, input, *weights, canRepeat ? &twice : nullptr, whyNot);
  bool floatSums = arithmetic == Arithmetic::FloatSums;
  if (arithmetic == Arithmetic::Float)
    input = {};
  if (layer->kind != LayerKind::Gather && !input &&
      !isa<FloatType>(getElementTypeOrSelf(layer->input->get().getType()))) {
    whyNot = "its activations are neither float nor dequantized";
    return failure();
  }
  if (input && biasUse && !floatSums) {
    if (std::optional<ConstantData> scale = ConstantData::get(input.getScale()))
      accumulatorBias = integerBias(biasUse->get(), scale->toFloats()[0], *weights, channels);
    biasAfter = !accumulatorBias;
    if (biasAfter) {
      end = op;
      biasUse = layer->bias;
    }
  }

  // Swallow a Relu and a quantize that are the only users.
  SmallVector<Operation *> swallowed{op};
  if (end != op)
    swallowed.push_back(end);
  bool relu = false;
  QuantizeOp output;
  Value result = end->getResult(0);
  if (layer->kind != LayerKind::Gather && !biasAfter) {
    if (result.hasOneUse())
      if (auto next = dyn_cast<onnx::ONNXReluOp>(*result.user_begin())) {
        relu = true;
        swallowed.push_back(end = next);
        result = next->getResult(0);
      }
    if (input && !floatSums && result.hasOneUse())
      if (auto next = dyn_cast<QuantizeOp>(*result.user_begin()))
        if (isPerTensor(next.getScale()) &&
            cast<ShapedType>(next.getOutput().getType()).getElementType().isInteger(8)) {
          output = next;
          swallowed.push_back(end = next);
          result = next.getOutput();
        }
  }
  auto resultType = dyn_cast<RankedTensorType>(result.getType());
  if (!resultType) {
    whyNot = "the shape of its result is unknown";
    return failure();
  }

  OpBuilder builder(end);
  Location loc = op->getLoc();
  std::string layerName = getLayerName(op), name = layerName + ".weight";
  if (auto given = source->getOperand(0).getDefiningOp()->getAttrOfType<StringAttr>("onnx_name"))
    name = given.str();
  Value w =
      createConstant(builder, op, weights->element, weights->shape, ArrayRef(weights->q), name);
  Value weightScale = createConstant(builder, op, builder.getF32Type(), weights->scaleShape,
                                     ArrayRef(weights->scale), name + ".scale");
  Value weightZero;
  if (!weights->symmetric)
    weightZero = createConstant(builder, op, weights->element, weights->scaleShape,
                                ArrayRef(weights->zero), name + ".zero");
  Value bias;
  if (accumulatorBias) {
    bias = createConstant(builder, op, builder.getI32Type(), {channels}, accumulatorBias->bytes(),
                          layerName + ".bias");
  } else if (biasUse && !biasAfter) {
    bias = biasUse->get();
    if (cast<RankedTensorType>(bias.getType()).getRank() != 1) {
      std::optional<ConstantData> data = ConstantData::get(bias);
      if (!data) {
        whyNot = "its bias is neither of rank 1 nor constant";
        return failure();
      }
      bias = createConstant(builder, op, builder.getF32Type(), {channels},
                            ArrayRef(data->toFloats()), layerName + ".bias");
    }
  }
  Value x = input ? input.getInput() : layer->input->get();
  if (twice) {
    auto type = cast<RankedTensorType>(x.getType());
    int64_t axis = layer->kind == LayerKind::Conv ? 1 : type.getRank() - 1;
    SmallVector<int64_t> shape(type.getShape());
    if (!ShapedType::isDynamic(shape[axis]))
      shape[axis] *= 2;
    auto repeated =
        onnx::ONNXConcatOp::create(builder, loc, type.clone(shape), ValueRange{x, x}, axis);
    repeated->setAttr("onnx_node_name", builder.getStringAttr(layerName + "/repeat"));
    x = repeated.getResult();
  }
  Value xScale = input ? input.getScale() : Value(), xZero = input ? input.getZero() : Value();
  Value outScale = output ? output.getScale() : Value(),
        outZero = output ? output.getZero() : Value();
  Operation *fused;
  switch (layer->kind) {
  case LayerKind::Linear:
    fused = LinearOp::create(builder, loc, resultType, x, w, weightScale, weightZero, bias, xScale,
                             xZero, outScale, outZero, weights->group, relu, layerName);
    break;
  case LayerKind::Conv:
    fused =
        ConvOp::create(builder, loc, resultType, x, w, weightScale, weightZero, bias, xScale, xZero,
                       outScale, outZero, layer->conv.strides, layer->conv.pads,
                       layer->conv.dilations, layer->conv.groups, weights->group, relu, layerName);
    break;
  case LayerKind::Gather:
    fused = GatherOp::create(builder, loc, resultType, w, x, weightScale, weightZero,
                             weights->group, layerName);
    break;
  }
  if (!input && whyNot.empty())
    whyNot = "its activations are float";
  noteFloat(op, input ? "" : whyNot);
  if (Attribute decision = op->getAttr("lowbit.decision"))
    fused->setAttr("lowbit.decision", decision);
  Value fusedResult = fused->getResult(0);
  if (biasAfter && biasUse)
    fusedResult = addBias(builder, fusedResult, biasUse->get(), *layer, layerName);
  result.replaceAllUsesWith(fusedResult);
  for (Operation *dead : llvm::reverse(swallowed))
    dead->erase();
  ++(input ? numInteger : numWeightOnly);
  return success();
}

static Operation *sourceOf(Value weight) {
  if (DequantizeOp dequantize = dequantizeOf(weight))
    return dequantize;
  return halfOf(weight);
}

void FuseQDQ::runOnOperation() {
  SmallVector<std::pair<QuantizableOpInterface, Operation *>> candidates;
  getOperation()->walk([&](QuantizableOpInterface op) {
    for (Value operand : op->getOperands())
      if (Operation *weights = sourceOf(operand)) {
        std::string ignored;
        std::optional<QuantizableLayer> layer = op.getQuantizableLayer(ignored);
        if (layer && layer->weight->get() != operand)
          continue; // A dequantized bias.
        candidates.emplace_back(op, weights);
        break;
      }
  });
  for (auto &[op, weights] : candidates) {
    std::string whyNot;
    if (succeeded(fuse(op, weights, whyNot)))
      continue;
    noteFloat(op, whyNot);
    op->emitRemark("layer '") << getLayerName(op)
                              << "' computes in float on dequantized weights: " << whyNot;
    ++numLeft;
  }
  // What only served the float ops.
  SmallVector<Operation *> maybeDead;
  getOperation()->walk([&](Operation *op) {
    if (isa<DequantizeOp, QuantizeOp, DynamicQuantizeOp, tensor::ExpandShapeOp, onnx::ONNXConstantOp,
            onnx::ONNXCastOp, arith::ConstantOp, arith::ExtFOp>(op))
      maybeDead.push_back(op);
  });
  for (Operation *op : llvm::reverse(maybeDead))
    if (op->use_empty())
      op->erase();
}
