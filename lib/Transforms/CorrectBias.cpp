//===- CorrectBias.cpp - what rounded weights shift a layer's mean by ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// M. Nagel et al., arXiv 1906.04721, section 4.2: E[ŷ] - E[y] = (Ŵ - W) E[x], which the bias takes back.
//
//===----------------------------------------------------------------------===//
#include "LayerConstants.h"
#include "QuantizeLayer.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"

using namespace lowbit;

/// The real values of a dequantized constant; empty where it is none.
static std::vector<double> dequantized(Value real) {
  Operation *op = real.getDefiningOp();
  while (op && !isa<DequantizeOp>(op) && op->getNumOperands() > 0)
    op = op->getOperand(0).getDefiningOp(); // A filter in groups is shaped back.
  auto dequantize = dyn_cast_or_null<DequantizeOp>(op);
  if (!dequantize)
    return {};
  std::optional<ConstantData> q = ConstantData::get(dequantize.getInput()),
                              scale = ConstantData::get(dequantize.getScale()),
                              zero = ConstantData::get(dequantize.getZero());
  if (!q || !scale || !zero)
    return {};
  std::vector<int64_t> values = q->toInts(), zeros = zero->toInts();
  std::vector<float> scales = scale->toFloats();
  ArrayRef<int64_t> shape = q->getType().getShape();
  std::optional<uint64_t> axis = dequantize.getAxis();
  int64_t group = dequantize.getGroup(), inner = 1, size = 1;
  if (axis) {
    size = shape[*axis];
    for (int64_t dim : shape.drop_front(*axis + 1))
      inner *= dim;
  }
  int64_t groups = group ? (size + group - 1) / group : size;
  std::vector<double> result;
  for (int64_t i = 0; i < int64_t(values.size()); ++i) {
    int64_t along = i / inner % size, place = 0;
    if (axis)
      place = group ? (i / inner / size * groups + along / group) * inner + i % inner : along;
    result.push_back(double(values[i] - zeros[place]) * scales[place]);
  }
  return result;
}

std::optional<std::vector<float>> lowbit::biasShift(const PlannedLayer &planned, Value real,
                                                    ArrayRef<float> means) {
  const QuantizableLayer &layer = *planned.layer;
  ConstantData data = *ConstantData::get(layer.weight->get());
  std::vector<double> rounded = dequantized(real);
  std::vector<float> values = data.toFloats();
  ArrayRef<int64_t> shape = data.getType().getShape();
  int64_t channels = shape[layer.channelAxis()], count = values.size(),
          groups = layer.kind == LayerKind::Conv ? layer.conv.groups : 1, inner = 1;
  for (int64_t dim : shape.drop_front(2))
    inner *= dim;
  int64_t perGroup = count / channels / inner; // Input channels of one output channel.
  if (int64_t(rounded.size()) != count || int64_t(means.size()) != perGroup * groups ||
      channels % groups)
    return std::nullopt;
  std::vector<double> shift(channels, 0.0);
  for (int64_t i = 0; i < count; ++i) {
    int64_t row = i / inner / shape[1], col = i / inner % shape[1],
            out = layer.channelAxis() ? col : row, in = layer.channelAxis() ? row : col;
    in += out / (channels / groups) * perGroup;
    shift[out] -= (rounded[i] - double(values[i]) * layer.weightFactor) * means[in];
  }
  return std::vector<float>(shift.begin(), shift.end());
}
