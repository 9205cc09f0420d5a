//===- FoldBatchNorm.cpp - batch normalization into the layer before it -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/SetVector.h"
#include <cmath>

namespace lowbit {
#define GEN_PASS_DEF_FOLDBATCHNORM
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
/// y = x * factor + shift, one pair per channel.
struct Affine {
  std::vector<double> factor, shift;
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
  }
  return affine;
}

std::string FoldBatchNorm::fold(Operation *norm) {
  for (Value extra : llvm::drop_begin(norm->getResults()))
    if (!extra.use_empty())
      return "its training outputs are used";
  Operation *layer = norm->getOperand(0).getDefiningOp();
  StringRef kind = layer ? onnx::getOperator(layer) : StringRef();
  if (kind != "Conv" && kind != "ConvTranspose" && kind != "Gemm")
    return "its input is not a Conv, ConvTranspose or Gemm";
  if (!layer->getResult(0).hasOneUse())
    return "'" + getLayerName(layer) + "' is used by other layers as well";
  std::optional<Affine> affine = readParameters(norm);
  if (!affine)
    return "its parameters are not f32 constants";
  std::optional<ConstantData> weight = ConstantData::get(layer->getOperand(1));
  if (!weight || !weight->getType().getElementType().isF32())
    return "the weight of '" + getLayerName(layer) + "' is not an f32 constant";
  Value biasOperand = onnx::getOperand(layer, 2);
  std::optional<ConstantData> bias;
  if (biasOperand && !(bias = ConstantData::get(biasOperand)))
    return "the bias of '" + getLayerName(layer) + "' is not a constant";

  // Where the output channel is: index = (offset / inner) % channels, plus the group for ConvTranspose.
  ArrayRef<int64_t> shape = weight->getType().getShape();
  int64_t channels = affine->factor.size(), group = 1, inner = 1;
  bool transB = onnx::getInt(layer, "transB", 0);
  unsigned axis = kind == "Conv" ? 0 : kind == "Gemm" ? (transB ? 0 : 1) : 1;
  for (int64_t dim : shape.drop_front(axis + 1))
    inner *= dim;
  if (kind == "ConvTranspose")
    group = onnx::getInt(layer, "group", 1);
  int64_t perGroup = shape[axis];
  if (perGroup * group != channels || (kind == "ConvTranspose" && shape[0] % group))
    return "it has " + std::to_string(channels) + " channels, the layer " +
           std::to_string(perGroup * group);
  if (bias && bias->getType().getNumElements() != channels && bias->getType().getNumElements() != 1)
    return "the bias of '" + getLayerName(layer) + "' differs between rows";
  if (bias && !bias->getType().getElementType().isF32())
    return "the bias of '" + getLayerName(layer) + "' is not f32";

  ArrayRef<float> from = weight->as<float>();
  std::vector<float> scaled(from.size());
  int64_t rows = kind == "ConvTranspose" ? (int64_t)from.size() / group : (int64_t)from.size();
  for (size_t i = 0; i < from.size(); ++i) {
    int64_t channel = i / inner % perGroup + (int64_t)i / rows * perGroup;
    scaled[i] = (float)(from[i] * affine->factor[channel]);
  }
  double alpha = onnx::getFloat(layer, "alpha", 1.0), beta = onnx::getFloat(layer, "beta", 1.0);
  if (kind == "Gemm" && alpha != 1.0)
    for (size_t i = 0; i < from.size(); ++i)
      scaled[i] = (float)(from[i] * alpha * affine->factor[i / inner % perGroup]);
  std::vector<float> shifted(channels);
  std::vector<float> old = bias ? bias->toFloats() : std::vector<float>{0.0f};
  for (int64_t c = 0; c < channels; ++c) {
    double b = (double)old[old.size() == 1 ? 0 : c] * (kind == "Gemm" ? beta : 1.0);
    shifted[c] = (float)(b * affine->factor[c] + affine->shift[c]);
  }

  OpBuilder builder(layer);
  auto constant = [&](RankedTensorType type, const std::vector<float> &values, StringRef role,
                      Value old) -> Value {
    std::string name = getLayerName(layer) + "." + role.str();
    if (Operation *source = old ? old.getDefiningOp() : nullptr)
      if (auto own = source->getAttrOfType<StringAttr>("onnx_name"))
        name = own.str();
    auto op = onnx::ONNXConstantOp::create(builder, layer->getLoc(), makeConstant(type, values, name));
    op->setAttr("onnx_name", builder.getStringAttr(name));
    return op.getOutput();
  };
  Value newWeight = constant(weight->getType(), scaled, "weight", layer->getOperand(1));
  Value newBias = constant(RankedTensorType::get(channels, builder.getF32Type()), shifted, "bias",
                           biasOperand);
  SmallVector<Operation *> unused;
  for (auto [index, value] : {std::pair<unsigned, Value>(1, newWeight), {2, newBias}}) {
    if (Operation *source = layer->getOperand(index).getDefiningOp())
      unused.push_back(source);
    layer->setOperand(index, value);
  }
  if (kind == "Gemm") {
    layer->setAttr("alpha", builder.getF32FloatAttr(1.0f));
    layer->setAttr("beta", builder.getF32FloatAttr(1.0f));
  }
  for (Value operand : llvm::drop_begin(norm->getOperands()))
    if (Operation *source = operand.getDefiningOp())
      unused.push_back(source);
  norm->getResult(0).replaceAllUsesWith(layer->getResult(0));
  norm->erase();
  for (Operation *op : llvm::SmallSetVector<Operation *, 8>(unused.begin(), unused.end()))
    if (op->use_empty())
      op->erase();
  return "";
}
