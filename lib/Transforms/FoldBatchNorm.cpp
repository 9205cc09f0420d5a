//===- FoldBatchNorm.cpp - batch normalization into a layer beside it -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "LayerRewriter.h"
#include "WeightLayout.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include <cmath>

namespace lowbit {
#define GEN_PASS_DEF_FOLDBATCHNORM
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
/// y = x * factor + shift, one pair per channel. `mean` and `deviation` are those of y over the
/// training data.
struct Affine {
  std::vector<double> factor, shift;
  std::vector<float> mean, deviation;
  int64_t channels() const { return factor.size(); }
};

struct FoldBatchNorm : public lowbit::impl::FoldBatchNormBase<FoldBatchNorm> {
  using FoldBatchNormBase::FoldBatchNormBase;

  void runOnOperation() override {
    SmallVector<Operation *> norms;
    getOperation().walk([&](Operation *op) {
      if (onnx::getOperator(op) == "BatchNormalization")
        norms.push_back(op);
    });
    for (Operation *norm : norms) {
      std::string reason = fold(norm);
      if (reason.empty()) {
        ++numFolded;
        continue;
      }
      ++numLeft;
      emitRemark(norm->getLoc()) << "batch normalization '" << getLayerName(norm)
                                 << "' stays: " << reason;
    }
  }

  /// Empty where `norm` is gone, else the reason why it stays.
  std::string fold(Operation *norm);
};
} // namespace

static std::optional<Affine> readParameters(Operation *norm) {
  std::vector<float> values[4]; // scale, bias, mean, variance
  for (unsigned i = 0; i < 4; ++i) {
    std::optional<ConstantData> data = ConstantData::get(norm->getOperand(i + 1));
    if (!data || !data->getType().getElementType().isF32())
      return std::nullopt;
    values[i] = data->toFloats();
    if (values[i].size() != values[0].size())
      return std::nullopt;
  }
  double epsilon = onnx::getFloat(norm, "epsilon", 1e-5);
  Affine affine;
  for (size_t c = 0; c < values[0].size(); ++c) {
    double factor = values[0][c] / std::sqrt((double)values[3][c] + epsilon);
    affine.factor.push_back(factor);
    affine.shift.push_back(values[1][c] - values[2][c] * factor);
    affine.deviation.push_back(std::fabs(values[0][c]));
  }
  affine.mean = values[1];
  return affine;
}

/// The layer whose output, with its bias, is `value`; null where there is none.
static Operation *layerBefore(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op || getWeightLayout(op))
    return op;
  if (onnx::getOperator(op) == "Add")
    for (Value operand : op->getOperands())
      if (Operation *layer = operand.getDefiningOp())
        if (getWeightLayout(layer) && LayerRewriter::getEnd(layer) == op)
          return layer;
  return op;
}

static bool isLayer(Operation *op) {
  StringRef kind = op ? onnx::getOperator(op) : StringRef();
  return kind == "Conv" || kind == "ConvTranspose" || kind == "Gemm" || kind == "MatMul";
}

static std::string quoted(Operation *op) { return "'" + getLayerName(op) + "'"; }

/// The products of a layer and its bias, if `affine` can go into them.
static std::string checkLayer(Operation *layer, int64_t channels, bool behind) {
  std::optional<WeightLayout> layout = getWeightLayout(layer);
  if (!layout)
    return "the weight of " + quoted(layer) + " is not an f32 constant" +
           (onnx::getOperator(layer) == "MatMul" ? " of rank 2" : "");
  int64_t own = behind ? layout->outputs() : layout->inputs();
  if (own != channels)
    return "it has " + std::to_string(channels) + " channels, " + quoted(layer) + " " +
           std::to_string(own);
  auto type = dyn_cast<RankedTensorType>(layer->getOperand(0).getType());
  if (onnx::getOperator(layer) == "MatMul" && (!type || type.getRank() != 2))
    return "its channels are not those of " + quoted(layer);
  if (!LayerRewriter::getBias(layer))
    return "the bias of " + quoted(layer) + " is not an f32 constant of one value per channel";
  return "";
}

/// Into the layer before it.
static std::string foldBack(Operation *norm, Operation *layer, const Affine &affine,
                            LayerRewriter &rewriter) {
  std::string reason = checkLayer(layer, affine.channels(), /*behind=*/true);
  if (!reason.empty())
    return reason;
  Operation *end = LayerRewriter::getEnd(layer);
  if (!end->getResult(0).hasOneUse())
    return quoted(layer) + " is used by other layers as well";
  WeightLayout layout = *getWeightLayout(layer);
  std::vector<double> weights = LayerRewriter::getWeights(layer),
                      bias = *LayerRewriter::getBias(layer);
  layout.forEach([&](int64_t offset, int64_t, int64_t out) {
    for (int64_t i = 0; i < layout.inner; ++i)
      weights[offset + i] *= affine.factor[out];
  });
  for (int64_t c = 0; c < affine.channels(); ++c)
    bias[c] = bias[c] * affine.factor[c] + affine.shift[c];
  rewriter.setWeights(layer, weights);
  rewriter.setBias(layer, bias);
  end = LayerRewriter::getEnd(layer);
  // What data-free passes know of the activations behind it.
  std::vector<float> moments = affine.mean;
  moments.insert(moments.end(), affine.deviation.begin(), affine.deviation.end());
  end->setAttr("lowbit.trained_moments",
               makeConstant(RankedTensorType::get({2, affine.channels()},
                                                  Float32Type::get(norm->getContext())),
                            moments, "moments"));
  norm->getResult(0).replaceAllUsesWith(end->getResult(0));
  return "";
}

/// Into all layers that read it.
static std::string foldForward(Operation *norm, const Affine &affine, LayerRewriter &rewriter) {
  bool shifts = llvm::any_of(affine.shift, [](double shift) { return shift != 0; });
  if (norm->getResult(0).use_empty())
    return "nothing reads it";
  for (OpOperand &use : norm->getResult(0).getUses()) {
    Operation *layer = use.getOwner();
    if (!isLayer(layer) || use.getOperandNumber() != 0)
      return quoted(layer) + " reads it, which is no Conv, ConvTranspose, Gemm or MatMul";
    std::string reason = checkLayer(layer, affine.channels(), /*behind=*/false);
    if (!reason.empty())
      return reason;
    StringRef kind = onnx::getOperator(layer);
    if (shifts && ((kind == "Conv" && hasPadding(layer)) || kind == "ConvTranspose"))
      return "it shifts its input, and at the borders " + quoted(layer) +
             " sums fewer elements of it";
  }
  SmallVector<Operation *> layers(norm->getResult(0).user_begin(), norm->getResult(0).user_end());
  for (Operation *layer : layers) {
    WeightLayout layout = *getWeightLayout(layer);
    std::vector<double> weights = LayerRewriter::getWeights(layer),
                        bias = *LayerRewriter::getBias(layer);
    layout.forEach([&](int64_t offset, int64_t in, int64_t out) {
      for (int64_t i = 0; i < layout.inner; ++i) {
        bias[out] += weights[offset + i] * affine.shift[in];
        weights[offset + i] *= affine.factor[in];
      }
    });
    rewriter.setWeights(layer, weights);
    if (shifts)
      rewriter.setBias(layer, bias);
  }
  norm->getResult(0).replaceAllUsesWith(norm->getOperand(0));
  return "";
}

std::string FoldBatchNorm::fold(Operation *norm) {
  for (Value extra : llvm::drop_begin(norm->getResults()))
    if (!extra.use_empty())
      return "its training outputs are used";
  std::optional<Affine> affine = readParameters(norm);
  if (!affine)
    return "its parameters are not f32 constants";
  LayerRewriter rewriter;
  Operation *layer = layerBefore(norm->getOperand(0));
  std::string back = isLayer(layer) ? foldBack(norm, layer, *affine, rewriter)
                                    : "its input is not a Conv, ConvTranspose, Gemm or MatMul";
  if (!back.empty()) {
    std::string forward = foldForward(norm, *affine, rewriter);
    if (!forward.empty())
      return back + "; " + forward;
  }
  for (Value operand : llvm::drop_begin(norm->getOperands()))
    if (Operation *source = operand.getDefiningOp())
      rewriter.noteUnused(source);
  norm->erase();
  return "";
}
