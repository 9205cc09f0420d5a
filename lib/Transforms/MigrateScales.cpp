//===- MigrateScales.cpp - input scales of layers into what makes the input ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ChannelGraph.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include <cmath>

namespace lowbit {
#define GEN_PASS_DEF_MIGRATESCALES
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

static constexpr StringRef attributeName = "lowbit.input_scales";

namespace {
struct MigrateScales : public lowbit::impl::MigrateScalesBase<MigrateScales> {
  using MigrateScalesBase::MigrateScalesBase;

  void runOnOperation() override {
    SmallVector<Block *> blocks;
    bool failed = false;
    getOperation()->walk([&](Operation *op) {
      if (!op->hasAttr(attributeName))
        return;
      if (!llvm::is_contained(blocks, op->getBlock()))
        blocks.push_back(op->getBlock());
    });
    for (Block *block : blocks)
      failed |= mlir::failed(migrate(*block));
    if (failed)
      signalPassFailure();
  }

  LogicalResult migrate(Block &block);
};
} // namespace

LogicalResult MigrateScales::migrate(Block &block) {
  ChannelGraph graph(block);
  // Layers that share a channel, and repeats of a head, get the geometric mean of what they ask
  // for.
  std::vector<double> logs(graph.size(), 0.0);
  std::vector<int64_t> counts(graph.size(), 0);
  for (const ScaledWeight &weight : graph.weights) {
    auto attr = weight.op->getAttrOfType<ElementsAttr>(attributeName);
    if (!attr)
      continue;
    std::optional<ConstantData> data = ConstantData::get(attr);
    if (!data || !data->getType().getElementType().isF32() ||
        data->getType().getNumElements() != int64_t(weight.in.size()))
      return weight.op->emitOpError("of layer '")
             << getLayerName(weight.op) << "' has " << attributeName << " of type "
             << attr.getType() << ", expected f32 and one for each of its " << weight.in.size()
             << " input channels";
    std::vector<float> scales = data->toFloats();
    bool moves = false;
    for (auto [scale, channel] : llvm::zip(scales, weight.in)) {
      if (!(scale > 0) || !std::isfinite(scale))
        return weight.op->emitOpError("of layer '")
               << getLayerName(weight.op) << "' has the input scale " << scale
               << ", expected positive numbers";
      int32_t id = graph.find(channel);
      if (id == ChannelGraph::fixed)
        continue;
      moves = true;
      logs[id] += std::log(double(scale));
      ++counts[id];
    }
    if (moves) {
      ++numLayers;
    } else {
      ++numLeft;
      weight.op->emitRemark("the input scales of layer '")
          << getLayerName(weight.op) << "' cannot move: its input is fixed, because "
          << graph.whyFixed(weight.input(), weight.in.front());
    }
  }
  block.walk([&](Operation *op) {
    if (op->getBlock() != &block || !op->removeAttr(attributeName))
      return;
    bool isKnown =
        llvm::any_of(graph.weights, [&](const ScaledWeight &weight) { return weight.op == op; });
    if (isKnown)
      return;
    ++numLeft;
    op->emitRemark("the input scales of layer '")
        << getLayerName(op) << "' cannot move: its weights are not an f32 constant of its own";
  });
  std::vector<double> factors(graph.size(), 1.0);
  for (size_t id = 0; id < factors.size(); ++id)
    if (counts[id])
      factors[id] = std::exp(-logs[id] / counts[id]);
  applyFactors(graph, factors);
  return success();
}
