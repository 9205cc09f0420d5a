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
#include "mlir/IR/Diagnostics.h"

using namespace lowbit;
using namespace lowbit::cuda;

template <typename OpTy>
static FailureOr<LayerConstants> read(OpTy op) {
  auto notConstant = [&](StringRef what) {
    op.emitRemark() << "no CUDA kernel: its " << what << " is not a constant";
    return failure();
  };
  LayerConstants layer;
  layer.name = op.getLayer().str();
  layer.group = op.getGroup();
  layer.relu = op.getRelu();
  auto weights = ConstantData::get(op.getWeight());
  if (!weights)
    return notConstant("weight");
  RankedTensorType type = weights->getType();
  layer.n = type.getDimSize(0);
  layer.k = layer.n ? type.getNumElements() / layer.n : 0;
  layer.weightBits = type.getElementTypeBitWidth();
  layer.weightSigned = !type.getElementType().isUnsignedInteger();
  if (layer.weightBits > 8 || layer.n == 0 || layer.k == 0) {
    op.emitRemark() << "no CUDA kernel: weights of " << layer.weightBits << " bits, " << layer.n << " x " << layer.k;
    return failure();
  }
  // Narrow elements take a byte each, whose upper bits are not always the sign: inline constants have zeros there.
  int64_t unused = 8 - layer.weightBits;
  for (int8_t raw : weights->template as<int8_t>()) {
    auto shifted = static_cast<uint8_t>(static_cast<uint8_t>(raw) << unused);
    layer.weights.push_back(layer.weightSigned ? static_cast<int8_t>(shifted) >> unused : shifted >> unused);
  }
  auto scales = ConstantData::get(op.getWeightScale());
  if (!scales)
    return notConstant("weight_scale");
  layer.scales = scales->toFloats();
  // [n, groups] or [n] or []; nothing to reorder.
  if (op.getWeightZero()) {
    auto zeros = ConstantData::get(op.getWeightZero());
    if (!zeros)
      return notConstant("weight_zero");
    layer.weightZeros = zeros->toInts();
  }
  if (op.getBias()) {
    auto bias = ConstantData::get(op.getBias());
    if (!bias)
      return notConstant("bias");
    if (isa<FloatType>(bias->getType().getElementType()))
      layer.floatBias = bias->toFloats();
    else
      for (int64_t value : bias->toInts())
        layer.integerBias.push_back(static_cast<int32_t>(value));
  }
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
  if (!scalar(op.getInputScale(), op.getInputZero(), layer.inputScale, layer.inputZero))
    return notConstant("input_scale or input_zero");
  if (!scalar(op.getOutputScale(), op.getOutputZero(), layer.outputScale, layer.outputZero))
    return notConstant("output_scale or output_zero");
  return layer;
}

FailureOr<LayerConstants> LayerConstants::get(Operation *op) {
  if (auto linear = dyn_cast<LinearOp>(op))
    return read(linear);
  return read(cast<ConvOp>(op));
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
      p.zeros.push_back(static_cast<uint8_t>(zero - weightMinimum()));
    }
  return p;
}

std::vector<uint8_t> LayerConstants::unsignedWeights() const {
  std::vector<uint8_t> result;
  result.reserve(weights.size());
  for (int8_t stored : weights)
    result.push_back(static_cast<uint8_t>((weightSigned ? int64_t(stored) : int64_t(uint8_t(stored))) - weightMinimum()));
  return result;
}
