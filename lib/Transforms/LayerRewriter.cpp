//===- LayerRewriter.cpp - new weights and biases for a layer ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "LayerRewriter.h"
#include "LayerConstants.h"
#include "WeightLayout.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"

using namespace lowbit;

static bool isF32Constant(Value value) {
  std::optional<ConstantData> data = ConstantData::get(value);
  return data && data->getType().getElementType().isF32();
}

/// The Add of a constant with one value for each of `channels` of the last axis that alone reads a
/// MatMul; the constant's operand in `index`.
static Operation *biasAdd(Operation *matmul, int64_t channels, unsigned &index) {
  if (onnx::getOperator(matmul) != "MatMul" || !matmul->getResult(0).hasOneUse())
    return nullptr;
  Operation *add = *matmul->getResult(0).user_begin();
  if (onnx::getOperator(add) != "Add")
    return nullptr;
  index = add->getOperand(0) == matmul->getResult(0) ? 1 : 0;
  if (!isF32Constant(add->getOperand(index)))
    return nullptr;
  auto type = cast<RankedTensorType>(add->getOperand(index).getType()),
       out = dyn_cast<RankedTensorType>(matmul->getResult(0).getType());
  if (!out || type.getRank() > out.getRank() || type.getNumElements() != channels ||
      type.getRank() == 0 || type.getShape().back() != channels)
    return nullptr;
  return add;
}

void LayerRewriter::setConstant(Operation *op, unsigned index, ArrayRef<int64_t> shape,
                                ArrayRef<float> values, StringRef role) {
  Value old = op->getOperand(index);
  Operation *source = old.getDefiningOp();
  StringAttr own = source ? source->getAttrOfType<StringAttr>("onnx_name") : StringAttr();
  std::string name = own ? own.str() : getLayerName(op) + "." + role.str();
  OpBuilder builder(op);
  Value constant = createConstant(builder, op, builder.getF32Type(), shape, values, name);
  constant.getDefiningOp()->setAttr("onnx_name", builder.getStringAttr(name));
  op->setOperand(index, constant);
  if (source)
    unused.insert(source);
}

Operation *LayerRewriter::getEnd(Operation *layer) {
  std::optional<WeightLayout> layout = getWeightLayout(layer);
  unsigned index;
  Operation *add = layout ? biasAdd(layer, layout->outputs(), index) : nullptr;
  return add ? add : layer;
}

std::optional<std::vector<double>> LayerRewriter::getBias(Operation *layer) {
  int64_t channels = getWeightLayout(layer)->outputs();
  std::vector<double> bias(channels, 0.0);
  unsigned index = 2;
  Operation *holder = layer;
  bool isMatMul = onnx::getOperator(layer) == "MatMul";
  if (isMatMul)
    holder = biasAdd(layer, channels, index);
  Value operand = holder ? onnx::getOperand(holder, index) : Value();
  if (!operand)
    return bias;
  if (!isF32Constant(operand))
    return std::nullopt;
  std::vector<float> values = ConstantData::get(operand)->toFloats();
  auto type = cast<RankedTensorType>(operand.getType());
  bool perChannel = int64_t(values.size()) == channels &&
                    (type.getRank() == 1 || (type.getRank() == 2 && type.getDimSize(0) == 1));
  if (values.size() != 1 && !perChannel && !isMatMul)
    return std::nullopt;
  double beta = onnx::getOperator(layer) == "Gemm" ? onnx::getFloat(layer, "beta", 1.0) : 1.0;
  for (int64_t c = 0; c < channels; ++c)
    bias[c] = double(values[values.size() == 1 ? 0 : c]) * beta;
  return bias;
}

void LayerRewriter::setBias(Operation *layer, ArrayRef<double> bias) {
  std::vector<float> values(bias.begin(), bias.end());
  int64_t channels = values.size();
  if (onnx::getOperator(layer) != "MatMul") {
    setConstant(layer, 2, {channels}, values, "bias");
    if (onnx::getOperator(layer) == "Gemm")
      layer->setAttr("beta", Builder(layer->getContext()).getF32FloatAttr(1.0f));
    return;
  }
  unsigned index;
  if (Operation *add = biasAdd(layer, channels, index)) {
    setConstant(add, index, cast<RankedTensorType>(add->getOperand(index).getType()).getShape(),
                values, "bias");
    return;
  }
  OpBuilder builder(layer->getContext());
  builder.setInsertionPointAfter(layer);
  std::string name = getLayerName(layer) + ".bias";
  Value constant = createConstant(builder, layer, builder.getF32Type(), {channels},
                                  ArrayRef<float>(values), name);
  constant.getDefiningOp()->setAttr("onnx_name", builder.getStringAttr(name));
  Value result = layer->getResult(0);
  auto add = onnx::ONNXAddOp::create(builder, layer->getLoc(), result.getType(), result, constant);
  add->setAttr("onnx_node_name", builder.getStringAttr(name + ".add"));
  result.replaceAllUsesExcept(add->getResult(0), add);
}

std::vector<double> LayerRewriter::getWeights(Operation *layer) {
  std::vector<float> values = ConstantData::get(layer->getOperand(1))->toFloats();
  double alpha = onnx::getOperator(layer) == "Gemm" ? onnx::getFloat(layer, "alpha", 1.0) : 1.0;
  std::vector<double> weights(values.begin(), values.end());
  if (alpha != 1.0)
    for (double &weight : weights)
      weight *= alpha;
  return weights;
}

void LayerRewriter::setWeights(Operation *layer, ArrayRef<double> weights) {
  std::vector<float> values(weights.begin(), weights.end());
  setConstant(layer, 1, cast<RankedTensorType>(layer->getOperand(1).getType()).getShape(), values,
              "weight");
  if (onnx::getOperator(layer) == "Gemm")
    layer->setAttr("alpha", Builder(layer->getContext()).getF32FloatAttr(1.0f));
}

void LayerRewriter::eraseUnused() {
  for (Operation *op : unused)
    if (op->use_empty())
      op->erase();
  unused.clear();
}
