//===- RuntimeAxes.h - axes that only the run knows -------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_RUNTIMEAXES_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_RUNTIMEAXES_H

#include "Lowering.h"

namespace lowbit::onnx {

/// The axes that an integer operand names. The run fails where one is out of range or comes twice.
class RuntimeAxes {
public:
  /// `rank` is that of the tensor whose axes they are. The operand has rank 0 or 1.
  RuntimeAxes(Lowering &l, unsigned operand, int64_t rank);

  /// Is dim `d` named: an i1.
  Value named(int64_t d) const { return anyOf[d]; }
  /// An empty operand names all dims.
  void nameAllIfNone();
  /// Of `values`, one per entry of the operand, the one that goes with dim `d`; `otherwise` where
  /// it is not named.
  OpFoldResult pick(int64_t d, ArrayRef<OpFoldResult> values, OpFoldResult otherwise) const;
  /// The sizes that are left of `all` without the named dims, `count` many, in order.
  Sizes without(ArrayRef<OpFoldResult> all, int64_t count) const;
  /// The sizes of a tensor that has 1 at the named dims and `others`, in order, elsewhere.
  Sizes with(ArrayRef<OpFoldResult> others) const;

private:
  Lowering &l;
  SmallVector<Value> anyOf;
  SmallVector<SmallVector<Value>> is; ///< By dim and entry.
};

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_RUNTIMEAXES_H
