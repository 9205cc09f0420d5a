//===- LinalgModels.cpp - linalg named ops as quantizable layers ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Interfaces/QuantizableOpInterface.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/AffineExpr.h"
#include "mlir/IR/Matchers.h"

using namespace lowbit;

static bool isZero(Value value) {
  if (auto fill = value.getDefiningOp<linalg::FillOp>())
    return matchPattern(fill.getInputs()[0], m_AnyZeroFloat());
  return matchPattern(value, m_AnyZeroFloat());
}

/// What all models check: one result, float tensors, and an accumulator that starts at zero.
static bool checkOp(linalg::LinalgOp op, std::string &whyNot) {
  if (!op.hasPureTensorSemantics() || op->getNumResults() != 1)
    whyNot = "it is not on tensors";
  else if (!llvm::all_of(op->getOperandTypes(),
                         [](Type type) { return getElementTypeOrSelf(type).isF32(); }))
    whyNot = "it is not in f32";
  else if (!isZero(op.getDpsInits()[0]))
    whyNot = "it adds to an accumulator that does not start at zero";
  else
    return true;
  return false;
}

/// Dimensions of a projected permutation as positions; empty for other maps.
static SmallVector<unsigned> positions(AffineMap map) {
  SmallVector<unsigned> dims;
  if (!map.isProjectedPermutation())
    return dims;
  for (AffineExpr expr : map.getResults())
    dims.push_back(cast<AffineDimExpr>(expr).getPosition());
  return dims;
}

namespace {
/// x [batch…, M, K] times a matrix: the maps say how the weights lie. `Batch` is the number of
/// batch loops.
template <typename OpTy, unsigned Batch>
struct MatmulModel : public QuantizableOpInterface::ExternalModel<MatmulModel<OpTy, Batch>, OpTy> {
  std::optional<QuantizableLayer> getQuantizableLayer(Operation *op, std::string &whyNot) const {
    auto matmul = cast<OpTy>(op);
    if (!checkOp(cast<linalg::LinalgOp>(op), whyNot))
      return std::nullopt;
    SmallVector<AffineMap> maps = matmul.getIndexingMapsArray();
    unsigned n = Batch + 1, k = Batch + 2;
    auto lhs = llvm::to_vector(llvm::seq<unsigned>(0, n)),
         out = llvm::to_vector(llvm::seq<unsigned>(0, k));
    lhs.push_back(k);
    if (ArrayRef(positions(maps[0])) != ArrayRef(lhs) ||
        ArrayRef(positions(maps[2])) != ArrayRef(out)) {
      whyNot = "its left operand or its result is transposed";
      return std::nullopt;
    }
    QuantizableLayer layer;
    SmallVector<unsigned> rhs = positions(maps[1]);
    layer.reductionFirst = rhs == SmallVector<unsigned>{k, n};
    if (!layer.reductionFirst && rhs != SmallVector<unsigned>{n, k}) {
      whyNot = "its right operand is not one matrix for all of the batch";
      return std::nullopt;
    }
    layer.input = &op->getOpOperand(0);
    layer.weight = &op->getOpOperand(1);
    return layer;
  }
};

template <typename OpTy>
struct ConvModel : public QuantizableOpInterface::ExternalModel<ConvModel<OpTy>, OpTy> {
  std::optional<QuantizableLayer> getQuantizableLayer(Operation *op, std::string &whyNot) const {
    auto conv = cast<OpTy>(op);
    if (!checkOp(cast<linalg::LinalgOp>(op), whyNot))
      return std::nullopt;
    QuantizableLayer layer;
    layer.kind = LayerKind::Conv;
    layer.input = &op->getOpOperand(0);
    layer.weight = &op->getOpOperand(1);
    for (int64_t stride : conv.getStrides().template getValues<int64_t>())
      layer.conv.strides.push_back(stride);
    for (int64_t dilation : conv.getDilations().template getValues<int64_t>())
      layer.conv.dilations.push_back(dilation);
    layer.conv.pads.assign(2 * layer.conv.strides.size(), 0);
    auto weight = cast<RankedTensorType>(layer.weight->get().getType());
    if (std::is_same_v<OpTy, linalg::DepthwiseConv2DNchwChwOp>) {
      if (weight.isDynamicDim(0)) {
        whyNot = "the number of its channels is dynamic";
        return std::nullopt;
      }
      layer.conv.groups = weight.getDimSize(0);
    }
    return layer;
  }
};

/// Ops that have weights in a layout that no pivot op has.
template <typename OpTy>
struct OtherLayoutModel
    : public QuantizableOpInterface::ExternalModel<OtherLayoutModel<OpTy>, OpTy> {
  std::optional<QuantizableLayer> getQuantizableLayer(Operation *op, std::string &whyNot) const {
    whyNot = "channels-last convolutions are not supported yet; use the nchw form";
    return std::nullopt;
  }
};
} // namespace

void lowbit::registerLinalgQuantizableModels(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, linalg::LinalgDialect *) {
    using namespace linalg;
    MatmulOp::attachInterface<MatmulModel<MatmulOp, 0>>(*context);
    BatchMatmulOp::attachInterface<MatmulModel<BatchMatmulOp, 1>>(*context);
    Conv2DNchwFchwOp::attachInterface<ConvModel<Conv2DNchwFchwOp>>(*context);
    DepthwiseConv2DNchwChwOp::attachInterface<ConvModel<DepthwiseConv2DNchwChwOp>>(*context);
    Conv2DNhwcHwcfOp::attachInterface<OtherLayoutModel<Conv2DNhwcHwcfOp>>(*context);
    Conv2DNhwcFhwcOp::attachInterface<OtherLayoutModel<Conv2DNhwcFhwcOp>>(*context);
    DepthwiseConv2DNhwcHwcOp::attachInterface<OtherLayoutModel<DepthwiseConv2DNhwcHwcOp>>(*context);
  });
}
