//===- Indexing.h - indices that come from the model's inputs ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An index that is out of range fails the run, and is clamped all the same so
// that nothing outside the data is read or written.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_INDEXING_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_INDEXING_H

#include "Lowering.h"

namespace lowbit::onnx {

/// An index (of any integer type) of a dim of `size`: counts from the end where negative, then
/// clamped into range.
Value clampIndex(OpBuilder &b, Location loc, Value index, Value size);

/// Fails the run where an entry of operand `operand` is not in [-size, size). `size` may depend on
/// the position in the last dim of the operand (GatherND): then `perLast` holds one size for each.
void checkIndices(Lowering &l, unsigned operand, ArrayRef<OpFoldResult> perLast);

/// True at the run where none of `axes` of operand 0 has size 0; null where that is known.
Value nonEmptyAxes(Lowering &l, ArrayRef<int64_t> axes);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_INDEXING_H
