//===- QuantizeWeights.cpp - a layer's weights as a quantized constant ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "QuantizeLayer.h"
#include "LayerConstants.h"
#include "lowbit/Recipe/Rounding.h"
#include "lowbit/Runtime/Sha256.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/APFloat.h"
#include <cmath>

using namespace lowbit;

IntegerType lowbit::elementType(MLIRContext *context, IntType type) {
  return IntegerType::get(context, bitWidth(type),
                          isSigned(type) ? IntegerType::Signless : IntegerType::Unsigned);
}

/// (W - Ŵ) E[x] per row; positions of a filter beyond the edge of the input count as the others.
static std::vector<float> meanShift(const QuantizableLayer &layer, ArrayRef<float> matrix,
                                    const QuantizedWeights &weights, ArrayRef<float> means) {
  int64_t groups = layer.kind == LayerKind::Conv ? layer.conv.groups : 1;
  int64_t perGroup = int64_t(means.size()) / groups, taps = weights.cols / perGroup;
  if (perGroup * groups != int64_t(means.size()) || taps * perGroup != weights.cols)
    return {};
  std::vector<float> shift(weights.rows);
  for (int64_t n = 0; n < weights.rows; ++n) {
    ArrayRef<float> own = means.slice(n / (weights.rows / groups) * perGroup, perGroup);
    double sum = 0;
    for (int64_t k = 0; k < weights.cols; ++k)
      sum += (double(matrix[n * weights.cols + k]) - double(weights.real(n, k))) * own[k / taps];
    shift[n] = float(sum);
  }
  return shift;
}

FailureOr<QuantizedWeights> WeightQuantizer::round(const PlannedLayer &planned,
                                                   const WeightRule &rule,
                                                   const std::vector<Moments> &moments,
                                                   const ConstantData &data, int64_t rows,
                                                   int64_t cols) {
  if (rounded)
    if (auto found = rounded->find(planned.key.name); found != rounded->end()) {
      const QuantizedWeights &known = found->second.weights;
      if (known.rows == rows && known.cols == cols && known.scheme == rule.scheme)
        return known;
      return planned.op->emitOpError("of layer '")
             << planned.key.name << "' was rounded to " << str(known.scheme)
             << ", which is not what the recipe says: " << str(rule.scheme);
    }
  if (needsMoments(rule.algorithm) && moments.empty()) {
    InFlightDiagnostic diag = planned.op->emitOpError("of layer '")
                              << planned.key.name
                              << "' is to be rounded on data, and there is none";
    diag.attachNote() << "give calibration data to the compiler: lowbit compile MODEL --recipe … "
                         "--data …";
    return diag;
  }
  std::string error;
  std::optional<QuantizedWeights> quantized =
      roundWeights(weightMatrix(*planned.layer, data).data(), rows, cols, rule.scheme,
                   roundingOptions(rule), moments, error);
  if (quantized)
    return std::move(*quantized);
  InFlightDiagnostic diag = planned.op->emitOpError("of layer '")
                            << planned.key.name
                            << "' has weights that cannot be quantized: " << error;
  diag.attachNote() << "mend the model, or give the layer a rule with keep: float";
  return diag;
}

FailureOr<QuantizedWeightOps> WeightQuantizer::quantize(const PlannedLayer &planned,
                                                        const WeightRule &rule,
                                                        ArrayRef<float> channelMeans,
                                                        const std::vector<Moments> &moments) {
  const QuantizableLayer &layer = *planned.layer;
  const Scheme &scheme = rule.scheme;
  Value original = layer.weight->get();
  bool shares = layer.kind != LayerKind::Conv && channelMeans.empty() && moments.empty() &&
                !(rounded && rounded->count(planned.key.name));
  if (shares)
    for (auto &[value, otherScheme, axis, factor, ops] : known)
      if (value == original && otherScheme == scheme && axis == layer.channelAxis() &&
          factor == layer.weightFactor)
        return ops;

  ConstantData data = *ConstantData::get(original);
  RankedTensorType type = data.getType();
  int64_t channelAxis = layer.channelAxis(), rows = type.getDimSize(channelAxis),
          cols = type.getNumElements() / rows;
  FailureOr<QuantizedWeights> quantized = round(planned, rule, moments, data, rows, cols);
  if (failed(quantized))
    return failure();

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
  result.report = quantized->report;
  if (!channelMeans.empty())
    result.biasShift =
        meanShift(layer, weightMatrix(layer, data), *quantized, channelMeans);
  Sha256 hash;
  hash.update(quantized->scales.data(), quantized->scales.size() * sizeof(float));
  hash.update(quantized->zeros.data(), quantized->zeros.size() * sizeof(int32_t));
  result.scalesHash = hash.finish();
  int64_t bits = bitWidth(scheme.type), count = quantized->scales.size();
  result.bytes = (type.getNumElements() * bits + 7) / 8 + count * 4;
  if (!scheme.symmetric)
    result.bytes += (count * bits + 7) / 8;
  if (shares)
    known.emplace_back(original, scheme, channelAxis, layer.weightFactor, result);
  return result;
}

FailureOr<QuantizedWeightOps> lowbit::halveWeights(const PlannedLayer &planned) {
  const QuantizableLayer &layer = *planned.layer;
  Value original = layer.weight->get();
  ConstantData data = *ConstantData::get(original);
  RankedTensorType type = data.getType();
  std::vector<float> values = data.toFloats();
  std::vector<uint16_t> halves;
  halves.reserve(values.size());
  QuantizedWeightOps result;
  double squared = 0, weights = 0;
  for (float value : values) {
    value *= layer.weightFactor;
    APFloat half(value);
    bool lossy;
    half.convert(APFloat::IEEEhalf(), APFloat::rmNearestTiesToEven, &lossy);
    if (!half.isFinite()) {
      InFlightDiagnostic diag = planned.op->emitOpError("of layer '")
                                << planned.key.name << "' has a weight of " << value
                                << ", which half precision (at most 65504) cannot hold";
      diag.attachNote() << "give the layer a rule with keep: float";
      return diag;
    }
    halves.push_back(uint16_t(half.bitcastToAPInt().getZExtValue()));
    half.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven, &lossy);
    double error = std::fabs(double(value) - double(half.convertToFloat()));
    result.maxError = std::max(result.maxError, error);
    squared += error * error;
    weights += double(value) * double(value);
  }
  result.relativeError = weights > 0 ? std::sqrt(squared / weights) : 0;
  result.bytes = type.getNumElements() * 2;

  OpBuilder builder(original.getContext());
  builder.setInsertionPointAfterValue(original);
  Operation *op = planned.op;
  std::string name = planned.key.weight.empty() ? planned.key.name + ".weight" : planned.key.weight;
  Value constant = createConstant(builder, op, builder.getF16Type(), type.getShape(),
                                  ArrayRef(halves), name);
  auto real = type.clone(builder.getF32Type());
  if (!isa<onnx::ONNXConstantOp>(constant.getDefiningOp())) {
    result.real = arith::ExtFOp::create(builder, op->getLoc(), real, constant);
    return result;
  }
  constant.getDefiningOp()->setAttr("onnx_name", builder.getStringAttr(name));
  constexpr int64_t single = 1; // Of TensorProto.DataType.
  OperationState state(op->getLoc(), "onnx.Cast", {constant}, real, {});
  state.addAttribute("to", builder.getIntegerAttr(builder.getIntegerType(64, true), single));
  result.real = builder.create(state)->getResult(0);
  return result;
}
