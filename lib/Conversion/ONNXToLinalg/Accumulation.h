//===- Accumulation.h - sums of products ---------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_ACCUMULATION_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_ACCUMULATION_H

#include "Lowering.h"

namespace lowbit::onnx {

/// The type that sums of products are kept in: f32 for 16-bit floats, else the type itself.
Type accumulator(Type element);

/// Body of a generic: acc + x * y, x and y widened to acc's type.
void multiplyAdd(OpBuilder &b, Location loc, ValueRange scalars);

/// `tensor` with its elements rounded to `element`.
Value narrow(Lowering &l, Value tensor, Type element);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_ACCUMULATION_H
