//===- Smooth.cpp - activations' outliers into weights ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// G. Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
// Models, ICML 2023, arXiv 2211.10438, equation 4: s_j = max|X_j|^α / max|W_j|^(1-α), X_j / s_j,
// s_j W_j. Here W_j is relative to what each output amounts to, so that models that differ in the
// scales of their channels alone become the same model.
//
//===----------------------------------------------------------------------===//
#include "ChannelGraph.h"
#include "ChannelGroups.h"
#include "ChannelStats.h"
#include "LayerConstants.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include <cmath>

namespace lowbit {
#define GEN_PASS_DEF_SMOOTH
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
/// One layer of a group with what was seen of its input.
struct Consumer {
  const ScaledWeight *weight;
  ConstantData data;
  ChannelStats stats;
  std::vector<double> square; ///< E[x²] per input channel.
  /// One over what an output channel amounts to. Weights are looked at relative to it: the scale of
  /// an output, which is as free as that of the input, then has no part in the choice.
  std::vector<double> weigh;
};

struct Smooth : public lowbit::impl::SmoothBase<Smooth> {
  using SmoothBase::SmoothBase;

  void runOnOperation() override {
    if (strength < 0 && strength != -1) {
      getOperation().emitError(
          "lowbit-smooth: expected alpha in [0, 1], or -1 to choose it, found ")
          << strength;
      return signalPassFailure();
    }
    if (strength > 1) {
      getOperation().emitError("lowbit-smooth: expected alpha in [0, 1], found ") << strength;
      return signalPassFailure();
    }
    if (failed(checkStatistics(getOperation(), "smooth")))
      return signalPassFailure();
    getOperation()->walk([&](Operation *op) {
      if (isa<ModuleOp>(op))
        return;
      for (Region &region : op->getRegions())
        for (Block &block : region)
          smooth(block);
    });
  }

  void smooth(Block &block);
};
} // namespace

static std::optional<ChannelStats> statsOf(const ChannelGraph &graph, const ScaledWeight &weight) {
  for (const ObservedChannels &observed : graph.observers) {
    ObserveOp op = observed.op;
    if (op.getInput() != weight.input())
      continue;
    std::optional<ChannelStats> stats = ChannelStats::get(op);
    if (stats && stats->min.size() == weight.in.size())
      return stats;
  }
  return std::nullopt;
}

/// The mean square of each channel. From the mean of |x|, as if x were normal; without it from the
/// range, of which 3 standard deviations are a half.
static std::vector<double> meanSquares(const ChannelStats &stats) {
  std::vector<double> squares;
  for (size_t c = 0; c < stats.min.size(); ++c) {
    double peak = std::max(std::fabs(stats.min[c]), std::fabs(stats.max[c]));
    squares.push_back(stats.absmean.empty() ? peak * peak / 9
                                            : double(stats.absmean[c]) * stats.absmean[c] * M_PI_2);
  }
  return squares;
}

/// 1 / √(Σ W² E[x²]) of each output channel; 0 for one without weights.
static std::vector<double> outputWeights(const ScaledWeight &weight, ArrayRef<float> values,
                                         ArrayRef<double> square) {
  std::vector<double> energy(weight.layout.outputs(), 0.0);
  weight.layout.forEach([&](int64_t offset, int64_t in, int64_t out) {
    for (float value : values.slice(offset, weight.layout.inner))
      energy[out] += double(value) * value * square[in];
  });
  for (double &e : energy)
    e = e > 0 ? 1 / std::sqrt(e) : 0;
  return energy;
}

/// The squared error, relative to each output, that 8 bits make in a layer's output when its input
/// is x / s and its weights are s W: one range for the activations, one per output channel for the
/// weights. Rounding errors of weights are the same for all positions and samples, so they do not
/// average out as those of activations do: they count four times.
static double roundingError(const Consumer &consumer, ArrayRef<double> scale) {
  constexpr double weightImportance = 4;
  const WeightLayout &layout = consumer.weight->layout;
  ArrayRef<float> values = consumer.data.as<float>();
  double low = 0, high = 0;
  for (size_t c = 0; c < scale.size(); ++c) {
    low = std::min(low, consumer.stats.min[c] / scale[c]);
    high = std::max(high, consumer.stats.max[c] / scale[c]);
  }
  std::vector<double> peak(layout.outputs(), 0.0), seen(layout.outputs(), 0.0);
  double energy = 0;
  layout.forEach([&](int64_t offset, int64_t in, int64_t out) {
    for (float value : values.slice(offset, layout.inner)) {
      double w = std::fabs(value) * scale[in] * consumer.weigh[out];
      energy += w * w;
      peak[out] = std::max(peak[out], w);
    }
    seen[out] += layout.inner * consumer.square[in] / (scale[in] * scale[in]);
  });
  double step = (high - low) / 255, error = step * step * energy;
  for (int64_t out = 0; out < layout.outputs(); ++out)
    error += weightImportance * (peak[out] / 127) * (peak[out] / 127) * seen[out];
  return error / 12;
}

/// Of the values of `ids` that are not 0; 1 where all are.
static double geometricMean(ArrayRef<double> values, ArrayRef<int32_t> ids) {
  double logs = 0;
  int64_t count = 0;
  for (int32_t id : ids)
    if (values[id] > 0) {
      logs += std::log(values[id]);
      ++count;
    }
  return count ? std::exp(logs / count) : 1;
}

/// A normalization whose result layers and others read (in a post-norm encoder the residual sum)
/// cannot take the division itself: its layers get a multiplication of their own, by 1 for now.
static void separateNormalizations(Block &block) {
  for (Operation &norm : llvm::make_early_inc_range(block)) {
    if (!onnx::getOperator(&norm).ends_with("LayerNormalization") &&
        onnx::getOperator(&norm) != "RMSNormalization")
      continue;
    Value value = norm.getResult(0);
    auto type = dyn_cast<RankedTensorType>(value.getType());
    if (!type || !type.getElementType().isF32() || type.getRank() == 0 ||
        type.isDynamicDim(type.getRank() - 1))
      continue;
    SmallVector<OpOperand *> own;
    bool hasStats = false, hasLayer = false, isShared = false;
    for (OpOperand &use : value.getUses()) {
      Operation *user = use.getOwner();
      auto observer = dyn_cast<ObserveOp>(user);
      bool isLayer = isa<onnx::ONNXMatMulOp, onnx::ONNXGemmOp>(user) &&
                     use.getOperandNumber() == 0 && ConstantData::get(user->getOperand(1));
      hasStats |= observer && observer.getStatsAttr() && observer.getStatsAttr().getChannelMax();
      hasLayer |= isLayer;
      isShared |= !observer && !isLayer;
      if (observer || isLayer)
        own.push_back(&use);
    }
    if (!hasStats || !hasLayer || !isShared)
      continue;
    OpBuilder builder(norm.getContext());
    builder.setInsertionPointAfter(&norm);
    std::vector<float> ones(type.getShape().back(), 1.0f);
    Value scale = createConstant(builder, &norm, builder.getF32Type(), {int64_t(ones.size())},
                                 ArrayRef(ones), getLayerName(&norm) + ".smooth");
    auto multiply = onnx::ONNXMulOp::create(builder, norm.getLoc(), type, value, scale);
    multiply->setAttr("onnx_node_name", builder.getStringAttr(getLayerName(&norm) + "/smooth"));
    for (OpOperand *use : own)
      use->set(multiply.getResult());
  }
}

void Smooth::smooth(Block &block) {
  separateNormalizations(block);
  ChannelGraph graph(block);
  std::vector<double> factors(graph.size(), 1.0), made(graph.size(), 0.0), read(graph.size(), 0.0);
  for (const ChannelGroup &group : findChannelGroups(graph)) {
    std::vector<Consumer> consumers;
    for (size_t index : group.consumers) {
      const ScaledWeight &weight = graph.weights[index];
      std::optional<ChannelStats> stats = statsOf(graph, weight);
      if (!stats)
        continue;
      std::vector<double> squares = meanSquares(*stats);
      ConstantData data = *ConstantData::get(weight.op->getOperand(1));
      std::vector<double> weigh = outputWeights(weight, data.as<float>(), squares);
      consumers.push_back({&weight, data, std::move(*stats), squares, weigh});
    }
    if (consumers.empty())
      continue;
    for (const Consumer &consumer : consumers) {
      for (size_t c = 0; c < consumer.weight->in.size(); ++c) {
        double peak = std::max(std::fabs(consumer.stats.min[c]), std::fabs(consumer.stats.max[c]));
        double &range = made[graph.find(consumer.weight->in[c])];
        range = std::max(range, peak);
      }
      ArrayRef<float> values = consumer.data.as<float>();
      consumer.weight->layout.forEach([&](int64_t offset, int64_t in, int64_t out) {
        double &range = read[graph.find(consumer.weight->in[in])];
        for (float value : values.slice(offset, consumer.weight->layout.inner))
          range = std::max(range, std::fabs(value) * consumer.weigh[out]);
      });
    }
    // A channel that was never seen, or that nothing weighs, is taken for a typical one: what it
    // will be is not known.
    double typicalInput = geometricMean(made, group.ids),
           typicalWeight = geometricMean(read, group.ids);
    // Scales of all classes for one alpha, with a geometric mean of the extremes of 1.
    std::vector<double> scales(graph.size(), 1.0), best;
    auto setScales = [&](double alpha) {
      double smallest = INFINITY, largest = 0;
      for (int32_t id : group.ids) {
        double x = made[id] > 0 ? made[id] : typicalInput,
               w = read[id] > 0 ? read[id] : typicalWeight;
        scales[id] = std::pow(x, alpha) / std::pow(w, 1 - alpha);
        smallest = std::min(smallest, scales[id]);
        largest = std::max(largest, scales[id]);
      }
      double middle = std::sqrt(smallest * largest);
      for (int32_t id : group.ids)
        scales[id] /= middle;
    };
    auto errorOf = [&](ArrayRef<double> byId) {
      double error = 0;
      for (const Consumer &consumer : consumers) {
        std::vector<double> scale;
        for (int32_t channel : consumer.weight->in)
          scale.push_back(byId[graph.find(channel)]);
        error += roundingError(consumer, scale);
      }
      return error;
    };
    if (strength >= 0) {
      setScales(strength);
      best = scales;
    } else {
      double least = errorOf(scales);
      for (int step = 0; step <= 20; ++step) {
        setScales(step / 20.0);
        double error = errorOf(scales);
        if (error < least) {
          least = error;
          best = scales;
        }
      }
    }
    if (best.empty())
      continue;
    ++numGroups;
    for (int32_t id : group.ids)
      factors[id] = 1 / best[id];
  }
  for (const ScaledWeight &weight : graph.weights) {
    if (weight.in.empty() || !statsOf(graph, weight))
      continue;
    if (llvm::any_of(weight.in,
                     [&](int32_t id) { return graph.find(id) != ChannelGraph::fixed; })) {
      ++numLayers;
      continue;
    }
    ++numLeft;
    weight.op->emitRemark("layer '")
        << getLayerName(weight.op) << "' is not smoothed: its input is fixed, because "
        << graph.whyFixed(weight.input(), weight.in.front());
  }
  applyFactors(graph, factors);
}
