//===- LayerConstants.cpp - everything constant about a quantized layer ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "LayerConstants.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Numerics/Quantize.h"
#include "lowbit/Support/ConstantData.h"

using namespace lowbit;
using namespace lowbit::cuda;

LogicalResult LayerConstants::readWeights(Value weight, Value scale, Value zero, std::string &why) {
  auto data = ConstantData::get(weight), scaleData = ConstantData::get(scale);
  if (!data || !scaleData) {
    why = data ? "its weight scale is not a constant" : "its weight is not a constant";
    return failure();
  }
  RankedTensorType type = data->getType();
  n = type.getDimSize(0);
  k = n ? type.getNumElements() / n : 0;
  weightBits = type.getElementTypeBitWidth();
  weightSigned = !type.getElementType().isUnsignedInteger();
  bool isHalf = type.getElementType().isF16();
  if ((weightBits > 8 && !isHalf) || n == 0 || k == 0) {
    why = "its weights have " + std::to_string(weightBits) + " bits and are " + std::to_string(n) +
          " x " + std::to_string(k);
    return failure();
  }
  scales = scaleData->toFloats();
  if (isHalf) {
    ArrayRef<uint16_t> bits = data->as<uint16_t>();
    halfWeights.assign(bits.begin(), bits.end());
    return success();
  }
  // Narrow elements take a byte each, whose upper bits are not always the sign: inline constants
  // have zeros there.
  int64_t unused = 8 - weightBits;
  for (int8_t raw : data->as<int8_t>()) {
    auto shifted = static_cast<uint8_t>(static_cast<uint8_t>(raw) << unused);
    weights.push_back(weightSigned ? static_cast<int8_t>(shifted) >> unused : shifted >> unused);
  }
  if (zero) {
    auto zeros = ConstantData::get(zero);
    if (!zeros) {
      why = "its weight zero point is not a constant";
      return failure();
    }
    weightZeros = zeros->toInts();
  }
  return success();
}

template <typename OpTy>
static LogicalResult readRest(LayerConstants &layer, OpTy op, std::string &why) {
  layer.relu = op.getRelu();
  if (op.getBias()) {
    auto bias = ConstantData::get(op.getBias());
    if (!bias) {
      why = "its bias is not a constant";
      return failure();
    }
    if (isa<FloatType>(bias->getType().getElementType()))
      layer.floatBias = bias->toFloats();
    else
      for (int64_t value : bias->toInts())
        layer.integerBias.push_back(static_cast<int32_t>(value));
  }
  if (layer.sumsInFloat)
    return success();
  auto scalar = [&](Value scale, Value zero, std::optional<float> &scaleTo, int64_t &zeroTo) {
    if (!scale)
      return true;
    auto s = ConstantData::get(scale), z = ConstantData::get(zero);
    if (!s || !z || s->getType().getNumElements() != 1 || z->getType().getNumElements() != 1)
      return false;
    scaleTo = s->toFloats().front();
    zeroTo = z->toInts().front();
    return true;
  };
  if (scalar(op.getInputScale(), op.getInputZero(), layer.inputScale, layer.inputZero) &&
      scalar(op.getOutputScale(), op.getOutputZero(), layer.outputScale, layer.outputZero))
    return success();
  why = "the scale or zero point of its input or output is not a constant";
  return failure();
}

LogicalResult LayerConstants::subtractZeros(std::string &why) {
  if (group && group < k) {
    why = "integer activations with weights in groups";
    return failure();
  }
  if (weightZeros.empty())
    weightZeros = {0};
  for (int64_t i = 0; i < n * k; ++i) {
    int64_t stored = weightSigned ? int64_t(weights[i]) : int64_t(uint8_t(weights[i]));
    int64_t difference = stored - weightZeros[weightZeros.size() == 1 ? 0 : i / k];
    if (difference < -128 || difference > 127) {
      why = "weights that are no i8 less their zero points";
      return failure();
    }
    weights[i] = static_cast<int8_t>(difference);
  }
  weightZeros.clear();
  return success();
}

FailureOr<LayerConstants> LayerConstants::get(Operation *op, std::string &why) {
  LayerConstants layer;
  auto read = [&](auto typed) -> LogicalResult {
    layer.name = typed.getLayer().str();
    layer.group = typed.getGroup();
    return layer.readWeights(typed.getWeight(), typed.getWeightScale(), typed.getWeightZero(), why);
  };
  LogicalResult result = failure();
  if (auto gather = dyn_cast<GatherOp>(op))
    result = read(gather);
  else if (auto linear = dyn_cast<LinearOp>(op)) {
    layer.sumsInFloat = linear.sumsInFloat();
    result = success(succeeded(read(linear)) && succeeded(readRest(layer, linear, why)) &&
                     (!layer.sumsInFloat || succeeded(layer.subtractZeros(why))));
  } else if (auto conv = dyn_cast<ConvOp>(op))
    result = success(succeeded(read(conv)) && succeeded(readRest(layer, conv, why)));
  if (failed(result))
    return failure();
  return layer;
}

IntegerParameters LayerConstants::integerParameters() const {
  IntegerParameters p;
  p.inputZero = inputZero, p.outputZero = outputZero, p.relu = relu;
  for (int64_t column = 0; column < n; ++column) {
    // Unsigned arithmetic wraps, as the accumulator does.
    uint32_t sum = 0;
    for (int64_t i = 0; i < k; ++i)
      sum += static_cast<uint32_t>(int32_t(weights[column * k + i]));
    uint32_t bias = integerBias.empty() ? 0 : static_cast<uint32_t>(integerBias[column]);
    p.biases.push_back(static_cast<int32_t>(bias - static_cast<uint32_t>(inputZero) * sum));
    float scale = scales[scales.size() == 1 ? 0 : column];
    p.multipliers.push_back(outputScale ? requantMultiplier(*inputScale, scale, *outputScale)
                                        : static_cast<float>(double(*inputScale) * scale));
  }
  return p;
}

RunTimeParameters LayerConstants::runTimeParameters() const {
  RunTimeParameters p;
  p.relu = relu;
  p.biases = floatBias.empty() ? std::vector<float>(n, -0.0f) : floatBias;
  for (int64_t column = 0; column < n; ++column) {
    uint32_t sum = 0;
    for (int64_t i = 0; i < k; ++i)
      sum += static_cast<uint32_t>(int32_t(weights[column * k + i]));
    p.columnSums.push_back(static_cast<int32_t>(sum));
    p.scales.push_back(scales[scales.size() == 1 ? 0 : column]);
  }
  return p;
}

GroupedParameters LayerConstants::groupedParameters(const Schedule &s) const {
  GroupedParameters p;
  p.relu = relu;
  p.biases = floatBias.empty() ? std::vector<float>(n, 0.0f) : floatBias;
  int64_t groups = s.groups(), given = group ? (k + group - 1) / group : 1;
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t column = 0; column < n; ++column) {
      size_t index = scales.size() == 1 ? 0 : column * given + std::min(g, given - 1);
      p.scales.push_back(scales[index]);
      int64_t zero = weightZeros.empty() ? 0 : weightZeros[index];
      p.zeros.push_back(weightBits == 16 ? 0 : static_cast<uint8_t>(zero - weightMinimum()));
    }
  return p;
}

std::vector<float> LayerConstants::tableParameters() const {
  if (weightBits == 16)
    return {scales.front()};
  int64_t groups = group ? (k + group - 1) / group : 1;
  std::vector<float> allScales;
  std::vector<uint8_t> allZeros;
  for (int64_t i = 0; i < n * groups; ++i) {
    size_t index = scales.size() == 1 ? 0 : i;
    allScales.push_back(scales[index]);
    allZeros.push_back(
        static_cast<uint8_t>((weightZeros.empty() ? 0 : weightZeros[index]) - weightMinimum()));
  }
  return packTableParameters(allScales, allZeros);
}

std::vector<uint8_t> LayerConstants::unsignedWeights() const {
  std::vector<uint8_t> result;
  result.reserve(weights.size());
  for (int8_t stored : weights)
    result.push_back(static_cast<uint8_t>(
        (weightSigned ? int64_t(stored) : int64_t(uint8_t(stored))) - weightMinimum()));
  return result;
}
