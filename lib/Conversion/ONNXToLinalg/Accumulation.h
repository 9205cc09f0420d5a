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

/// Operand `i` less its zero point, operand `zero` (none, one, or one per index of dim `axis`), as i32; exact.
FailureOr<Value> lessZeroPoint(Lowering &l, unsigned i, unsigned zero, int64_t axis);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_ACCUMULATION_H
