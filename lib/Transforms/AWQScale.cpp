//===- AWQScale.cpp - input scales that make weights round better ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// J. Lin et al., AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration,
// MLSys 2024, arXiv 2306.00978, section 3.2. The search is lib/Numerics'; here is what may be
// scaled together.
//
//===----------------------------------------------------------------------===//
#include "ChannelGraph.h"
#include "ChannelGroups.h"
#include "ChannelStats.h"
#include "QuantizeLayer.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Analysis/ObservedValues.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Numerics/AWQ.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/MapVector.h"

namespace lowbit {
#define GEN_PASS_DEF_AWQSCALE
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct AWQScale : public lowbit::impl::AWQScaleBase<AWQScale> {
  using AWQScaleBase::AWQScaleBase;

  void runOnOperation() override {
    std::optional<LayerPlan> plan = planLayers(getOperation(), recipe);
    if (!plan)
      return signalPassFailure();
    if (failed(checkStatistics(getOperation(), "awq")))
      return signalPassFailure();
    SmallVector<Block *> blocks;
    getOperation()->walk([&](ObserveOp op) {
      if (!llvm::is_contained(blocks, op->getBlock()))
        blocks.push_back(op->getBlock());
    });
    for (Block *block : blocks)
      if (failed(scale(*block, *plan)))
        return signalPassFailure();
  }

  LogicalResult scale(Block &block, const LayerPlan &plan);
};

/// Layers that read one value, whose weights the recipe rounds.
struct Readers {
  std::vector<const ScaledWeight *> layers;
  std::vector<const PlannedLayer *> planned;
};
} // namespace

/// E[x xᵀ] of a layer's input; of its diagonal, from means of |x|, where no more is known.
static std::optional<Moments> momentsOf(const ChannelGraph &graph, const ScaledWeight &weight) {
  int64_t cols = weight.in.size();
  for (const ObservedChannels &observed : graph.observers) {
    ObserveOp op = observed.op;
    StatsAttr stats = op.getStatsAttr();
    if (op.getInput() != weight.input() || !stats)
      continue;
    if (std::vector<Moments> moments = getMoments(stats, cols); moments.size() == 1)
      return std::move(moments.front());
    std::optional<ConstantData> data =
        stats.getChannelAbsmean() ? ConstantData::get(stats.getChannelAbsmean()) : std::nullopt;
    if (!data || data->getType().getNumElements() != cols)
      continue;
    std::vector<float> diagonal(cols * cols, 0.0f), means = data->toFloats();
    for (int64_t i = 0; i < cols; ++i)
      diagonal[i * cols + i] = means[i] * means[i];
    return Moments::fromMatrix(diagonal.data(), cols);
  }
  return std::nullopt;
}

LogicalResult AWQScale::scale(Block &block, const LayerPlan &plan) {
  ChannelGraph graph(block);
  std::vector<double> factors(graph.size(), 1.0);
  llvm::DenseMap<Operation *, const PlannedLayer *> planned;
  for (const PlannedLayer &layer : plan.layers) {
    const Rule *rule = plan.ruleOf(layer);
    if (layer.layer && layer.layer->kind == LayerKind::Linear && rule && rule->weights)
      planned[layer.op] = &layer;
  }
  for (const ChannelGroup &group : findChannelGroups(graph)) {
    llvm::MapVector<Value, Readers> inputs;
    for (size_t index : group.consumers) {
      const ScaledWeight &weight = graph.weights[index];
      if (auto found = planned.find(weight.op); found != planned.end()) {
        inputs[weight.input()].layers.push_back(&weight);
        inputs[weight.input()].planned.push_back(found->second);
      }
    }
    for (auto &[input, readers] : inputs) {
      const ScaledWeight &first = *readers.layers.front();
      std::optional<Moments> moments = momentsOf(graph, first);
      if (!moments)
        continue;
      StringRef obstacle;
      if (inputs.size() > 1)
        obstacle = "other layers' inputs are tied to its input";
      for (int32_t id : first.in)
        if (graph.find(id) == ChannelGraph::fixed)
          obstacle = "a part of its input is fixed";
      if (!obstacle.empty()) {
        ++numLeft;
        first.op->emitRemark("layer '")
            << getLayerName(first.op) << "' gets no input scales: " << obstacle;
        continue;
      }
      AWQOptions options;
      options.range = clip ? WeightRange::WeightedMSE : WeightRange::MinMax;
      llvm::DenseMap<int32_t, int64_t> classes;
      for (int32_t id : first.in)
        options.classes.push_back(
            classes.try_emplace(graph.find(id), int64_t(classes.size())).first->second);
      std::vector<std::vector<float>> matrices;
      std::vector<AWQLayer> layers;
      for (const PlannedLayer *layer : readers.planned) {
        ConstantData data = *ConstantData::get(layer->layer->weight->get());
        int64_t rows = data.getType().getDimSize(layer->layer->channelAxis());
        matrices.push_back(weightMatrix(*layer->layer, data));
        layers.push_back({matrices.back().data(), rows, plan.ruleOf(*layer)->weights->scheme});
      }
      std::string error;
      std::optional<AWQScales> found = searchAWQScales(layers, *moments, options, error);
      if (!found)
        return first.op->emitOpError("of layer '")
               << getLayerName(first.op) << "': no input scales: " << error;
      for (auto [id, scale] : llvm::zip(first.in, found->scales))
        factors[graph.find(id)] = 1.0 / scale;
      ++numGroups;
      numLayers += readers.layers.size();
    }
  }
  for (const ScaledWeight &weight : graph.weights)
    if (planned.count(weight.op) && momentsOf(graph, weight) &&
        llvm::all_of(weight.in,
                     [&](int32_t id) { return graph.find(id) == ChannelGraph::fixed; })) {
      ++numLeft;
      weight.op->emitRemark("layer '")
          << getLayerName(weight.op) << "' gets no input scales: its input is fixed, because "
          << graph.whyFixed(weight.input(), weight.in.front());
    }
  applyFactors(graph, factors);
  return success();
}
