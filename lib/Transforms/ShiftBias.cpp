//===- ShiftBias.cpp - a correction added to a layer's bias ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "LayerConstants.h"
#include "QuantizeLayer.h"
#include "lowbit/Analysis/LayerName.h"
#include "mlir/IR/BuiltinOps.h"

using namespace lowbit;

bool lowbit::shiftBias(const PlannedLayer &planned, ArrayRef<float> shift) {
  const QuantizableLayer &layer = *planned.layer;
  Operation *op = planned.op, *end = op;
  OpBuilder builder(op);
  if (OpOperand *bias = findBias(op, layer, end)) {
    std::optional<ConstantData> data = ConstantData::get(bias->get());
    if (!data || !data->getType().getElementType().isF32())
      return false;
    float factor = end == op ? layer.biasFactor : 1;
    if (factor == 0)
      return false;
    std::vector<float> values = data->toFloats();
    for (auto [value, by] : llvm::zip(values, shift))
      value += by / factor;
    Operation *old = bias->get().getDefiningOp();
    bias->set(createConstant(builder, op, builder.getF32Type(), data->getType().getShape(),
                             ArrayRef(values), planned.key.name + ".bias"));
    if (old->use_empty())
      old->erase();
    return true;
  }
  Value bias = createConstant(builder, op, builder.getF32Type(), {int64_t(shift.size())}, shift,
                              planned.key.name + ".bias");
  if (isa<onnx::ONNXConvOp>(op)) {
    op->setOperand(2, bias);
    return true;
  }
  if (auto gemm = dyn_cast<onnx::ONNXGemmOp>(op)) {
    gemm.setBeta(APFloat(1.0f));
    op->setOperand(2, bias);
    return true;
  }
  if (!isa<onnx::ONNXMatMulOp>(op)) {
    bias.getDefiningOp()->erase();
    return false;
  }
  builder.setInsertionPointAfter(op);
  Value result = op->getResult(0);
  auto add = onnx::ONNXAddOp::create(builder, op->getLoc(), result.getType(), result, bias);
  add->setAttr("onnx_node_name", builder.getStringAttr(planned.key.name + "/bias"));
  result.replaceAllUsesExcept(add.getResult(), add);
  return true;
}
