//===- QuantizableModels.h - onnx ops as quantizable layers -----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_DIALECT_ONNX_IR_QUANTIZABLEMODELS_H
#define LOWBIT_DIALECT_ONNX_IR_QUANTIZABLEMODELS_H

#include "lowbit/Support/LLVM.h"

namespace lowbit::onnx {
/// Attaches QuantizableOpInterface to Conv, MatMul, Gemm and Gather.
void registerQuantizableModels(DialectRegistry &registry);
} // namespace lowbit::onnx

#endif // LOWBIT_DIALECT_ONNX_IR_QUANTIZABLEMODELS_H
