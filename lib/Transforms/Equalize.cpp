//===- Equalize.cpp - channels of like ranges, without data ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Cross-layer equalization: M. Nagel et al., Data-Free Quantization Through Weight Equalization and
// Bias Correction, ICCV 2019, arXiv 1906.04721, section 4.1.
//
//===----------------------------------------------------------------------===//
#include "ChannelGraph.h"
#include "ChannelGroups.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include <cmath>

namespace lowbit {
#define GEN_PASS_DEF_EQUALIZE
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct Equalize : public lowbit::impl::EqualizeBase<Equalize> {
  using EqualizeBase::EqualizeBase;
  void runOnOperation() override;

private:
  void equalize(Block &block);
};

/// Finds factors of all classes of a graph.
class Equalizer {
public:
  explicit Equalizer(ChannelGraph &graph);
  /// Largest |log factor| of a round over all groups.
  double sweep();
  std::vector<ChannelGroup> groups;
  std::vector<double> factors;

private:
  double factor(int32_t id) const { return id == ChannelGraph::fixed ? 1.0 : factors[id]; }
  ChannelGraph &graph;
  std::vector<ConstantData> weights, vectors;
  std::vector<double> made, read; ///< By id: the ranges of what makes and of what reads it.
};
} // namespace

Equalizer::Equalizer(ChannelGraph &graph)
    : groups(findChannelGroups(graph)), factors(graph.size(), 1.0), graph(graph),
      made(graph.size()), read(graph.size()) {
  for (ScaledWeight &weight : graph.weights) {
    weights.push_back(*ConstantData::get(weight.op->getOperand(weight.operand)));
    for (std::vector<int32_t> *ids : {&weight.in, &weight.out})
      for (int32_t &id : *ids)
        id = graph.find(id);
  }
  for (ScaledVector &vector : graph.vectors) {
    vectors.push_back(*ConstantData::get(vector.op->getOperand(vector.operand)));
    for (std::vector<int32_t> *ids : {&vector.in.ids, &vector.out.ids})
      for (int32_t &id : *ids)
        id = graph.find(id);
  }
}

double Equalizer::sweep() {
  double largest = 0;
  for (const ChannelGroup &group : groups) {
    if (group.consumers.empty() || (group.producers.empty() && group.gains.empty()))
      continue;
    for (int32_t id : group.ids)
      made[id] = read[id] = 0;
    auto scan = [&](size_t index, bool isProducer) {
      const ScaledWeight &weight = graph.weights[index];
      ArrayRef<float> values = weights[index].as<float>();
      weight.layout.forEach([&](int64_t offset, int64_t in, int64_t out) {
        float peak = 0;
        for (float value : values.slice(offset, weight.layout.inner))
          peak = std::max(peak, std::fabs(value));
        int32_t from = weight.in.empty() ? ChannelGraph::fixed : weight.in[in],
                to = weight.out[out];
        double scaled = peak * factor(to) / factor(from);
        double &range = isProducer ? made[to] : read[from];
        range = std::max(range, scaled);
      });
    };
    for (size_t index : group.producers)
      scan(index, true);
    for (size_t index : group.consumers)
      scan(index, false);
    for (size_t index : group.gains)
      for (auto [value, id] : llvm::zip(vectors[index].toFloats(), graph.vectors[index].out.ids))
        made[id] = std::max(made[id], std::fabs(value) * factor(id));
    for (int32_t id : group.ids) {
      if (!(made[id] > 0) || !(read[id] > 0))
        continue;
      // After it both ranges are sqrt(made · read).
      double s = std::sqrt(read[id] / made[id]);
      factors[id] *= s;
      largest = std::max(largest, std::fabs(std::log(s)));
    }
  }
  return largest;
}

void Equalize::equalize(Block &block) {
  ChannelGraph graph(block);
  Equalizer equalizer(graph);
  for (int round = 0; round < 100; ++round)
    if (equalizer.sweep() < 1e-3)
      break;
  for (const ChannelGroup &group : equalizer.groups)
    for (int32_t id : group.ids)
      numChannels += equalizer.factors[id] != 1.0;
  numConstants += applyFactors(graph, equalizer.factors);
}

void Equalize::runOnOperation() {
  getOperation()->walk([&](Operation *op) {
    for (Region &region : op->getRegions())
      for (Block &block : region)
        if (!isa<ModuleOp>(op))
          equalize(block);
  });
}
