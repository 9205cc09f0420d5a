//===- ApplyFactors.cpp - constants after their channels were scaled ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ChannelGraph.h"
#include "ChannelPatterns.h"
#include "ChannelStats.h"
#include "LayerRewriter.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Support/ConstantData.h"

using namespace lowbit;

int64_t lowbit::applyFactors(ChannelGraph &graph, ArrayRef<double> factors) {
  auto factor = [&](int32_t id) {
    id = graph.find(id);
    return id == ChannelGraph::fixed ? 1.0 : factors[id];
  };
  auto changes = [&](ArrayRef<int32_t> ids) {
    return llvm::any_of(ids, [&](int32_t id) { return factor(id) != 1.0; });
  };
  auto scaleMoments = [&](Operation *op, ArrayRef<int32_t> ids) {
    auto attr = op->getAttrOfType<ElementsAttr>("lowbit.trained_moments");
    std::optional<ConstantData> data = attr ? ConstantData::get(attr) : std::nullopt;
    if (!data || data->getType().getNumElements() != 2 * int64_t(ids.size()))
      return;
    std::vector<float> values = data->toFloats();
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = float(values[i] * factor(ids[i % ids.size()]));
    op->setAttr("lowbit.trained_moments", makeConstant(data->getType(), values, "moments"));
  };
  LayerRewriter rewriter;
  int64_t count = 0;
  for (const ScaledWeight &weight : graph.weights) {
    if (!changes(weight.in) && !changes(weight.out))
      continue;
    ConstantData data = *ConstantData::get(weight.op->getOperand(weight.operand));
    std::vector<float> values = data.toFloats();
    weight.layout.forEach([&](int64_t offset, int64_t in, int64_t out) {
      double f = factor(weight.out[out]) / (weight.in.empty() ? 1.0 : factor(weight.in[in]));
      for (int64_t i = 0; i < weight.layout.inner; ++i)
        values[offset + i] = float(values[offset + i] * f);
    });
    rewriter.setConstant(weight.op, weight.operand, data.getType().getShape(), values, "weight");
    ++count;
    scaleMoments(weight.op, weight.out);
  }
  for (const ScaledVector &vector : graph.vectors) {
    if (!changes(vector.in.ids) && !changes(vector.out.ids))
      continue;
    ConstantData data = *ConstantData::get(vector.op->getOperand(vector.operand));
    // The constant may have one value for channels that no longer share one.
    ArrayRef<int64_t> own = data.getType().getShape();
    std::optional<SmallVector<int64_t, 4>> shape = broadcastShape(own, vector.out.shape);
    if (!vector.in.ids.empty())
      shape = broadcastShape(*shape, vector.in.shape);
    ChannelPattern positions;
    positions.shape.assign(own.begin(), own.end());
    std::vector<float> old = data.toFloats(), values;
    for (size_t i = 0; i < old.size(); ++i)
      positions.ids.push_back(i);
    positions = broadcast(positions, *shape);
    ChannelPattern out = broadcast(vector.out, *shape), in;
    if (!vector.in.ids.empty())
      in = broadcast(vector.in, *shape);
    for (size_t i = 0; i < positions.ids.size(); ++i) {
      double f = factor(out.ids[i]) / (in.ids.empty() ? 1.0 : factor(in.ids[i]));
      if (vector.role == ScaledVector::Role::Divisor)
        f = 1 / f;
      values.push_back(float(old[positions.ids[i]] * f));
    }
    // Dims that only the pattern has, and of which there is one, stay away.
    SmallVector<int64_t> shown(shape->begin(), shape->end());
    while (shown.size() > own.size() && shown.front() == 1)
      shown.erase(shown.begin());
    rewriter.setConstant(vector.op, vector.operand, shown, values, "vector");
    ++count;
    if (onnx::getOperator(vector.op) == "Add")
      scaleMoments(vector.op, vector.out.ids);
  }
  rewriter.eraseUnused();

  for (const ObservedChannels &observed : graph.observers) {
    if (!changes(observed.ids))
      continue;
    // Channels that differ along another axis than the observer counts.
    ObserveOp op = observed.op;
    std::vector<int32_t> channels = graph.channelsAlong(op.getInput(), getChannelAxis(op));
    if (channels.empty()) {
      op->removeAttr("stats");
      continue;
    }
    std::vector<double> scale, shift(channels.size(), 0.0);
    for (int32_t id : channels)
      scale.push_back(factor(id));
    transformStats(op, scale, shift);
  }
  return count;
}
