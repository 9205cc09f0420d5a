//===- Normalization.h - what normalizations share --------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_NORMALIZATION_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_NORMALIZATION_H

#include "Reduction.h"

namespace lowbit::onnx {

/// The type that float elements are normalized in: f32 for 16-bit floats, else the type itself.
Type computeType(Type element);

/// `tensor` with its elements extended to `to`.
Value widened(Lowering &l, Value tensor, Type to);

/// Softmax of float tensor `x` over `axis`, or its logarithm, with elements of type `element`.
Value softmaxOver(Lowering &l, Value x, int64_t axis, bool logarithm, Type element);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_NORMALIZATION_H
