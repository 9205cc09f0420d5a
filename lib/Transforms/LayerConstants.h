//===- LayerConstants.h - constants beside a layer ---------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TRANSFORMS_LAYERCONSTANTS_H
#define LOWBIT_LIB_TRANSFORMS_LAYERCONSTANTS_H

#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Builders.h"

namespace lowbit {

/// A constant as the dialect of `layer` writes it: onnx.Constant beside onnx ops and for unsigned
/// elements (arith.constant cannot hold them), arith.constant otherwise. `bytes` as in
/// makeConstant.
inline Value createConstant(OpBuilder &builder, Operation *layer, Type element,
                            ArrayRef<int64_t> shape, ArrayRef<char> bytes, StringRef name) {
  ElementsAttr value = makeConstant(RankedTensorType::get(shape, element), bytes, name);
  if (layer->getName().getDialectNamespace() == "onnx" || element.isUnsignedInteger())
    return onnx::ONNXConstantOp::create(builder, layer->getLoc(), value);
  return arith::ConstantOp::create(builder, layer->getLoc(), value);
}

template <typename T>
Value createConstant(OpBuilder &builder, Operation *layer, Type element, ArrayRef<int64_t> shape,
                     ArrayRef<T> values, StringRef name) {
  ArrayRef<char> bytes(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T));
  return createConstant(builder, layer, element, shape, bytes, name);
}

/// A row-major matrix [rows, cols] of elements of any size as [cols, rows].
inline std::vector<char> transposeBytes(ArrayRef<char> bytes, int64_t rows, int64_t cols) {
  std::vector<char> result(bytes.size());
  int64_t size = rows * cols ? int64_t(bytes.size()) / (rows * cols) : 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      std::copy_n(bytes.data() + (r * cols + c) * size, size,
                  result.data() + (c * rows + r) * size);
  return result;
}

} // namespace lowbit

#endif // LOWBIT_LIB_TRANSFORMS_LAYERCONSTANTS_H
