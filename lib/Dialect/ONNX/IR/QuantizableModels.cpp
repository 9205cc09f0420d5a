//===- QuantizableModels.cpp - onnx ops as quantizable layers ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/ONNX/IR/QuantizableModels.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Interfaces/QuantizableOpInterface.h"

using namespace lowbit;
using namespace lowbit::onnx;

static RankedTensorType tensorOf(Value value) {
  return dyn_cast<RankedTensorType>(value.getType());
}

/// Ranked f32 tensors on both sides, and weights of static shape.
static bool checkTypes(Operation *op, Value input, Value weight, std::string &whyNot) {
  RankedTensorType in = tensorOf(input), w = tensorOf(weight), out = tensorOf(op->getResult(0));
  if (!in || !w || !out)
    whyNot = "its shapes are unknown";
  else if (!w.getElementType().isF32())
    whyNot = "its weights are not f32";
  else if (!w.hasStaticShape())
    whyNot = "the shape of its weights is dynamic";
  else
    return true;
  return false;
}

static bool isPresent(Value value) { return value && !isa<NoneType>(value.getType()); }

static SmallVector<int64_t> ints(std::optional<ArrayAttr> attr, size_t count, int64_t missing) {
  SmallVector<int64_t> values;
  if (attr)
    for (Attribute element : *attr)
      values.push_back(cast<IntegerAttr>(element).getInt());
  if (values.empty())
    values.assign(count, missing);
  return values;
}

/// Pads of auto_pad SAME_UPPER or SAME_LOWER: the result has ceil(in / stride) elements.
static bool samePads(ONNXConvOp conv, ArrayRef<int64_t> in, ArrayRef<int64_t> kernel,
                     ConvGeometry &geometry, std::string &whyNot) {
  size_t n = kernel.size();
  for (size_t d = 0; d < n; ++d) {
    if (ShapedType::isDynamic(in[d])) {
      whyNot = "its padding depends on a dynamic size (auto_pad)";
      return false;
    }
    int64_t stride = geometry.strides[d], out = (in[d] + stride - 1) / stride;
    int64_t total = std::max<int64_t>(0, (out - 1) * stride +
                                             (kernel[d] - 1) * geometry.dilations[d] + 1 - in[d]);
    int64_t less = total / 2, more = total - less;
    geometry.pads[d] = conv.getAutoPad() == "SAME_UPPER" ? less : more;
    geometry.pads[n + d] = total - geometry.pads[d];
  }
  return true;
}

namespace {
struct ConvModel : public QuantizableOpInterface::ExternalModel<ConvModel, ONNXConvOp> {
  std::optional<QuantizableLayer> getQuantizableLayer(Operation *op, std::string &whyNot) const {
    auto conv = cast<ONNXConvOp>(op);
    if (!checkTypes(op, conv.getX(), conv.getW(), whyNot))
      return std::nullopt;
    RankedTensorType in = tensorOf(conv.getX()), w = tensorOf(conv.getW());
    if (in.getRank() < 3 || w.getRank() != in.getRank()) {
      whyNot = "its input and weights are not [N, C, spatial…] and [F, C / groups, spatial…]";
      return std::nullopt;
    }
    size_t spatial = in.getRank() - 2;
    QuantizableLayer layer;
    layer.kind = LayerKind::Conv;
    layer.input = &op->getOpOperand(0);
    layer.weight = &op->getOpOperand(1);
    if (isPresent(conv.getB()))
      layer.bias = &op->getOpOperand(2);
    layer.conv.groups = conv.getGroup();
    layer.conv.strides = ints(conv.getStrides(), spatial, 1);
    layer.conv.dilations = ints(conv.getDilations(), spatial, 1);
    layer.conv.pads = ints(conv.getPads(), 2 * spatial, 0);
    if (layer.conv.strides.size() != spatial || layer.conv.dilations.size() != spatial ||
        layer.conv.pads.size() != 2 * spatial) {
      whyNot = "its strides, dilations or pads do not fit its shape";
      return std::nullopt;
    }
    if (conv.getAutoPad().starts_with("SAME") &&
        !samePads(conv, in.getShape().drop_front(2), w.getShape().drop_front(2), layer.conv,
                  whyNot))
      return std::nullopt;
    return layer;
  }
};

struct MatMulModel : public QuantizableOpInterface::ExternalModel<MatMulModel, ONNXMatMulOp> {
  std::optional<QuantizableLayer> getQuantizableLayer(Operation *op, std::string &whyNot) const {
    auto matmul = cast<ONNXMatMulOp>(op);
    RankedTensorType rhs = tensorOf(matmul.getB());
    if (rhs && rhs.getRank() != 2) {
      whyNot = "its right operand has rank " + std::to_string(rhs.getRank()) + ", not 2";
      return std::nullopt;
    }
    if (!checkTypes(op, matmul.getA(), matmul.getB(), whyNot))
      return std::nullopt;
    QuantizableLayer layer;
    layer.input = &op->getOpOperand(0);
    layer.weight = &op->getOpOperand(1);
    layer.reductionFirst = true;
    return layer;
  }
};

struct GemmModel : public QuantizableOpInterface::ExternalModel<GemmModel, ONNXGemmOp> {
  std::optional<QuantizableLayer> getQuantizableLayer(Operation *op, std::string &whyNot) const {
    auto gemm = cast<ONNXGemmOp>(op);
    if (!checkTypes(op, gemm.getA(), gemm.getB(), whyNot))
      return std::nullopt;
    if (gemm.getTransA()) {
      whyNot = "its activations are transposed (transA)";
      return std::nullopt;
    }
    QuantizableLayer layer;
    layer.input = &op->getOpOperand(0);
    layer.weight = &op->getOpOperand(1);
    layer.reductionFirst = !gemm.getTransB();
    layer.weightFactor = gemm.getAlpha().convertToFloat();
    layer.biasFactor = gemm.getBeta().convertToFloat();
    if (isPresent(gemm.getC())) {
      RankedTensorType c = tensorOf(gemm.getC()), w = tensorOf(gemm.getB());
      int64_t n = w.getDimSize(layer.channelAxis());
      if (!c || !c.hasStaticShape() || c.getNumElements() != n || c.getShape().back() != n) {
        whyNot = "its third operand is not one value per output channel";
        return std::nullopt;
      }
      layer.bias = &op->getOpOperand(2);
    }
    return layer;
  }
  void clearFactors(Operation *op) const {
    auto gemm = cast<ONNXGemmOp>(op);
    gemm.setAlpha(APFloat(1.0f));
    gemm.setBeta(APFloat(1.0f));
  }
};

struct GatherModel : public QuantizableOpInterface::ExternalModel<GatherModel, ONNXGatherOp> {
  std::optional<QuantizableLayer> getQuantizableLayer(Operation *op, std::string &whyNot) const {
    auto gather = cast<ONNXGatherOp>(op);
    if (!checkTypes(op, gather.getIndices(), gather.getData(), whyNot))
      return std::nullopt;
    if (gather.getAxis() != 0 || tensorOf(gather.getData()).getRank() != 2) {
      whyNot = "it does not gather rows of a matrix";
      return std::nullopt;
    }
    QuantizableLayer layer;
    layer.kind = LayerKind::Gather;
    layer.weight = &op->getOpOperand(0);
    layer.input = &op->getOpOperand(1);
    return layer;
  }
};
} // namespace

void onnx::registerQuantizableModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, ONNXDialect *) {
    ONNXConvOp::attachInterface<ConvModel>(*context);
    ONNXMatMulOp::attachInterface<MatMulModel>(*context);
    ONNXGemmOp::attachInterface<GemmModel>(*context);
    ONNXGatherOp::attachInterface<GatherModel>(*context);
  });
}
