//===- Reduction.h - reductions over some axes ------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_REDUCTION_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_REDUCTION_H

#include "Lowering.h"

namespace lowbit::onnx {

/// `input` reduced over `axes` into a tensor without those dims. `step` gets the sum so far and the next element.
Value reduceOver(Lowering &l, Value input, ArrayRef<int64_t> axes, Value init,
                 llvm::function_ref<Value(OpBuilder &, Location, Value, Value)> step);

/// The map that reads a tensor without `axes` from loops over all `rank` dims.
AffineMap withoutAxes(Lowering &l, int64_t rank, ArrayRef<int64_t> axes);

/// How many elements of `input` fall together, as a scalar of float type `element`.
Value reducedCount(Lowering &l, Value input, ArrayRef<int64_t> axes, Type element);

/// The neutral element of a maximum or minimum.
Value extremum(Lowering &l, Type element, bool isUnsigned, bool highest);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_REDUCTION_H
