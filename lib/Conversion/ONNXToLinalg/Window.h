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

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_WINDOW_H
