//===- AbsorbBias.cpp - what a Relu always passes goes into the next bias ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// High-bias absorption: M. Nagel et al., Data-Free Quantization Through Weight Equalization and
// Bias Correction, ICCV 2019, arXiv 1906.04721, section 4.1.3: where x >= c, Relu(x) = Relu(x - c)
// + c.
//
//===----------------------------------------------------------------------===//
#include "ChannelStats.h"
#include "LayerRewriter.h"
#include "WeightLayout.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"

namespace lowbit {
#define GEN_PASS_DEF_ABSORBBIAS
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct AbsorbBias : public lowbit::impl::AbsorbBiasBase<AbsorbBias> {
  using AbsorbBiasBase::AbsorbBiasBase;

  void runOnOperation() override {
    SmallVector<Operation *> layers;
    getOperation()->walk([&](Operation *op) {
      if (getWeightLayout(op) && LayerRewriter::getBias(op))
        layers.push_back(op);
    });
    for (Operation *layer : layers)
      absorb(layer);
  }

  void absorb(Operation *layer);
};

/// What reads the Relu behind a layer.
struct Readers {
  SmallVector<Operation *> layers;
  SmallVector<ObserveOp> observers;
  std::string obstacle; ///< Empty where all of them can take a constant.
};
} // namespace

/// Follows pooling of whole channels, which moves a constant through.
static void findReaders(Value value, int64_t channels, Readers &readers) {
  for (Operation *op : value.getUsers()) {
    StringRef kind = onnx::getOperator(op);
    auto type = op->getNumResults() ? dyn_cast<RankedTensorType>(op->getResult(0).getType())
                                    : RankedTensorType();
    if (auto observe = dyn_cast<ObserveOp>(op)) {
      readers.observers.push_back(observe);
    } else if (kind == "GlobalAveragePool" || kind == "MaxPool" ||
               (kind == "AveragePool" && !onnx::getInt(op, "count_include_pad", 0)) ||
               (kind == "Flatten" && type && type.getRank() == 2 &&
                type.getDimSize(1) == channels)) {
      findReaders(op->getResult(0), channels, readers);
    } else if (std::optional<WeightLayout> layout = getWeightLayout(op);
               layout && op->getOperand(0) == value && layout->inputs() == channels &&
               LayerRewriter::getBias(op)) {
      if ((kind == "Conv" && hasPadding(op)) || kind == "ConvTranspose")
        readers.obstacle = "at the borders '" + getLayerName(op) + "' sums fewer elements of it";
      readers.layers.push_back(op);
    } else {
      readers.obstacle = "'" + getLayerName(op) + "' reads it";
    }
  }
}

/// What every element of a channel exceeds, or 0.
static std::vector<double> floors(Operation *end, const Readers &readers, int64_t channels) {
  std::vector<double> floor(channels, 0.0);
  for (ObserveOp observer : readers.observers)
    if (std::optional<ChannelStats> stats = ChannelStats::get(observer);
        stats && int64_t(stats->min.size()) == channels) {
      for (int64_t c = 0; c < channels; ++c)
        floor[c] = std::max(0.0, double(stats->min[c]));
      return floor;
    }
  auto attr = end->getAttrOfType<ElementsAttr>("lowbit.trained_moments");
  std::optional<ConstantData> data = attr ? ConstantData::get(attr) : std::nullopt;
  if (data && data->getType().getNumElements() == 2 * channels) {
    std::vector<float> moments = data->toFloats();
    for (int64_t c = 0; c < channels; ++c)
      floor[c] = std::max(0.0, double(moments[c]) - 3.0 * moments[channels + c]);
  }
  return floor;
}

void AbsorbBias::absorb(Operation *layer) {
  int64_t channels = getWeightLayout(layer)->outputs();
  Operation *end = LayerRewriter::getEnd(layer);
  if (!end->getResult(0).hasOneUse())
    return;
  Operation *relu = *end->getResult(0).user_begin();
  auto type = dyn_cast<RankedTensorType>(end->getResult(0).getType());
  if (onnx::getOperator(relu) != "Relu" || !type ||
      (type.getRank() > 2 && onnx::getOperator(layer) != "Conv" &&
       onnx::getOperator(layer) != "ConvTranspose"))
    return;
  Readers readers;
  findReaders(relu->getResult(0), channels, readers);
  std::vector<double> floor = floors(end, readers, channels);
  if (readers.layers.empty() || llvm::all_of(floor, [](double c) { return c == 0; }))
    return;
  if (!readers.obstacle.empty()) {
    ++numLeft;
    relu->emitRemark("what '") << getLayerName(layer)
                               << "' always exceeds stays in its bias: " << readers.obstacle;
    return;
  }
  LayerRewriter rewriter;
  std::vector<double> bias = *LayerRewriter::getBias(layer);
  for (int64_t c = 0; c < channels; ++c) {
    bias[c] -= floor[c];
    numChannels += floor[c] > 0;
  }
  rewriter.setBias(layer, bias);
  for (Operation *reader : readers.layers) {
    WeightLayout layout = *getWeightLayout(reader);
    std::vector<double> weights = LayerRewriter::getWeights(reader),
                        shifted = *LayerRewriter::getBias(reader);
    layout.forEach([&](int64_t offset, int64_t in, int64_t out) {
      for (int64_t i = 0; i < layout.inner; ++i)
        shifted[out] += weights[offset + i] * floor[in];
    });
    rewriter.setBias(reader, shifted);
  }
  std::vector<double> ones(channels, 1.0), shift(channels);
  for (int64_t c = 0; c < channels; ++c)
    shift[c] = -floor[c];
  for (ObserveOp observer : readers.observers)
    transformStats(observer, ones, shift);
  end->removeAttr("lowbit.trained_moments");
}
