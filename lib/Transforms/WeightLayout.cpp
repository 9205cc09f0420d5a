//===- WeightLayout.cpp - in and out channels of a weight constant ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "WeightLayout.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Support/ConstantData.h"
#include "llvm/ADT/STLExtras.h"

using namespace lowbit;

void WeightLayout::forEach(
    llvm::function_ref<void(int64_t offset, int64_t in, int64_t out)> visit) const {
  // [out, in / groups, taps] or [in, out / groups, taps]: the second axis counts within a group.
  int64_t rowsPerGroup = a / groups;
  for (int64_t row = 0; row < a; ++row)
    for (int64_t col = 0; col < b; ++col) {
      int64_t other = row / rowsPerGroup * b + col, offset = (row * b + col) * inner;
      if (outFirst)
        visit(offset, other, row);
      else
        visit(offset, row, other);
    }
}

std::optional<WeightLayout> lowbit::getWeightLayout(Operation *op) {
  StringRef kind = op ? onnx::getOperator(op) : StringRef();
  bool isConv = kind == "Conv" || kind == "ConvTranspose";
  if (!isConv && kind != "Gemm" && kind != "MatMul")
    return std::nullopt;
  std::optional<ConstantData> data = ConstantData::get(op->getOperand(1));
  auto in = dyn_cast<RankedTensorType>(op->getOperand(0).getType());
  if (!data || !in || !data->getType().getElementType().isF32())
    return std::nullopt;
  ArrayRef<int64_t> shape = data->getType().getShape();
  if (isConv ? int64_t(shape.size()) != in.getRank() || in.getRank() < 3 : shape.size() != 2)
    return std::nullopt;
  if (kind == "Gemm" && onnx::getInt(op, "transA", 0))
    return std::nullopt;
  WeightLayout layout;
  layout.a = shape[0];
  layout.b = shape[1];
  for (int64_t dim : shape.drop_front(2))
    layout.inner *= dim;
  if (isConv)
    layout.groups = onnx::getInt(op, "group", 1);
  layout.outFirst = kind == "Conv" || (kind == "Gemm" && onnx::getInt(op, "transB", 0));
  if (layout.groups < 1 || layout.a % layout.groups)
    return std::nullopt;
  return layout;
}

bool lowbit::hasPadding(Operation *conv) {
  StringRef mode = onnx::getString(conv, "auto_pad", "NOTSET");
  if (mode != "NOTSET")
    return mode != "VALID";
  return llvm::any_of(onnx::getInts(conv, "pads"), [](int64_t pad) { return pad != 0; });
}
