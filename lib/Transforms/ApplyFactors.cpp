//===- ApplyFactors.cpp - constants after their channels were scaled ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ChannelGraph.h"
#include "ChannelPatterns.h"
#include "LayerConstants.h"
#include "lowbit/Analysis/LayerName.h"
#include "llvm/ADT/SetVector.h"

using namespace lowbit;

namespace {
/// Gives constants new values and erases those that nothing reads any more.
class ConstantWriter {
public:
  /// Operand `index` of `op` becomes a constant of `shape` and `values`, with the old one's name.
  void replace(Operation *op, unsigned index, ArrayRef<int64_t> shape, ArrayRef<float> values) {
    Value old = op->getOperand(index);
    std::string name = getLayerName(op) + "." + std::to_string(index);
    StringAttr own;
    if (Operation *source = old.getDefiningOp()) {
      own = source->getAttrOfType<StringAttr>("onnx_name");
      replaced.insert(source);
    }
    OpBuilder builder(op);
    Value constant = createConstant(builder, op, builder.getF32Type(), shape, values, own ? own.str() : name);
    if (own)
      constant.getDefiningOp()->setAttr("onnx_name", own);
    op->setOperand(index, constant);
    ++count;
  }
  void eraseUnused() {
    for (Operation *op : replaced)
      if (op->use_empty())
        op->erase();
  }
  int64_t count = 0;

private:
  llvm::SetVector<Operation *> replaced;
};
} // namespace

int64_t lowbit::applyFactors(ChannelGraph &graph, ArrayRef<double> factors) {
  auto factor = [&](int32_t id) {
    id = graph.find(id);
    return id == ChannelGraph::fixed ? 1.0 : factors[id];
  };
  auto changes = [&](ArrayRef<int32_t> ids) {
    return llvm::any_of(ids, [&](int32_t id) { return factor(id) != 1.0; });
  };
  ConstantWriter writer;
  for (const ScaledWeight &weight : graph.weights) {
    if (!changes(weight.in) && !changes(weight.out))
      continue;
    ConstantData data = *ConstantData::get(weight.op->getOperand(weight.operand));
    std::vector<float> values = data.toFloats();
    weight.forEach([&](int64_t offset, int64_t in, int64_t out) {
      double f = factor(weight.out[out]) / (in < 0 ? 1.0 : factor(weight.in[in]));
      for (int64_t i = 0; i < weight.inner; ++i)
        values[offset + i] = float(values[offset + i] * f);
    });
    writer.replace(weight.op, weight.operand, data.getType().getShape(), values);
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
    writer.replace(vector.op, vector.operand, shown, values);
  }
  writer.eraseUnused();

  for (ObservedChannels &observed : graph.observers) {
    StatsAttr stats = observed.op.getStatsAttr();
    if (!stats || !changes(observed.pattern.ids))
      continue;
    double f = factor(observed.pattern.ids.front());
    bool isUniform =
        llvm::all_of(observed.pattern.ids, [&](int32_t id) { return factor(id) == f; });
    if (!isUniform) {
      observed.op->removeAttr("stats");
      continue;
    }
    Builder builder(observed.op.getContext());
    observed.op.setStatsAttr(
        StatsAttr::get(builder.getContext(),
                                     builder.getF32FloatAttr(stats.getMin().getValueAsDouble() * f),
                                     builder.getF32FloatAttr(stats.getMax().getValueAsDouble() * f)));
  }
  return writer.count;
}
