//===- Normalization.h - what normalizations share --------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_NORMALIZATION_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_NORMALIZATION_H

#include "Num.h"
#include "Reduction.h"

namespace lowbit::onnx {

/// `tensor` with its elements extended to `to`.
Value widened(Lowering &l, Value tensor, Type to);

/// Softmax of float tensor `x` over `axis`, or its logarithm, with elements of type `element`.
Value softmaxOver(Lowering &l, Value x, int64_t axis, bool logarithm, Type element);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_NORMALIZATION_H
