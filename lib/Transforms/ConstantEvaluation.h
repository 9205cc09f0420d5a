//===- ConstantEvaluation.h - one onnx op on constant operands --*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TRANSFORMS_CONSTANTEVALUATION_H
#define LOWBIT_LIB_TRANSFORMS_CONSTANTEVALUATION_H

#include "lowbit/Support/LLVM.h"

namespace lowbit {

/// The results of `op` where all its operands are constants and it is one of: data movement on any element type,
/// casts, f32 elementwise arithmetic. Fails without a diagnostic where it is not, or where the results would be
/// much bigger than the operands.
LogicalResult evaluate(Operation *op, SmallVectorImpl<ElementsAttr> &results);

} // namespace lowbit

#endif // LOWBIT_LIB_TRANSFORMS_CONSTANTEVALUATION_H
