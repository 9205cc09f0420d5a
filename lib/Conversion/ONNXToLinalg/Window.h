//===- Window.h - a window that slides over the spatial dims ----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_WINDOW_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_WINDOW_H

#include "Lowering.h"

namespace lowbit::onnx {

/// The geometry of a convolution or pool, one entry per spatial dim. Padding is what the windows need in fact: with
/// ceil_mode more than the node says, without it possibly less.
struct Window {
  SmallVector<int64_t> strides, dilations;
  Sizes kernel, input, output;
  Sizes low, high;   ///< Elements to add in front and behind.
  Sizes declaredEnd; ///< The padding behind that the node declares.
};

/// Reads the geometry of `l.op`, whose input (operand 0) is N x C x spatial dims.
Window readWindow(Lowering &l, ArrayRef<OpFoldResult> kernel);

/// `input` with the window's padding around its last dims, filled with `fill`.
Value padWindow(Lowering &l, const Window &window, Value input, Value fill);

/// `sizes` filled with the bias (operand 2, where there is one and `bias` is set) along dim `axis`, else with 0.
Value initialSums(Lowering &l, ArrayRef<OpFoldResult> sizes, Type sum, unsigned axis = 1,
                  bool bias = true);

/// Dim `axis` of `tensor` split in two, the outer one of size `outer`; where only the run knows the dim, it is checked
/// to be a multiple.
Value splitDim(Lowering &l, Value tensor, int64_t axis, int64_t outer);

/// Dims `axis` and `axis` + 1 of `tensor` as one.
Value joinGroups(Lowering &l, Value tensor, int64_t axis = 1);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_WINDOW_H
