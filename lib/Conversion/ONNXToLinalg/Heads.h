//===- Heads.h - operands with attention heads ------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_HEADS_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_HEADS_H

#include "Lowering.h"

namespace lowbit::onnx {

/// An operand with its heads as a dim: [batch, heads, sequence, size] in memory, or [batch,
/// sequence, heads, size].
struct Heads {
  Value tensor;
  bool sequenceFirst = false;
  SymbolicExpr batch, heads, sequence, size;
};

/// Operand `i` of rank 4.
Heads fourDims(Lowering &l, unsigned i);
/// Operand `i` [batch, sequence, heads * size], as a view where the sizes are known to fit.
Heads splitLastDim(Lowering &l, unsigned i, int64_t heads);

// Each asserts at the run what is not known to be equal, and cuts both to the smaller: whoever
// reads the tensors afterwards stays inside both.
void matchBatch(Lowering &l, Heads &x, Heads &y);
void matchSequence(Lowering &l, Heads &x, Heads &y);
void matchHeads(Lowering &l, Heads &x, Heads &y, StringRef what);
void matchSizes(Lowering &l, Heads &x, Heads &y);

/// Copies each head of `x` as often as `like` has more of them: where the numbers of heads are
/// known only at the run.
void repeatHeads(Lowering &l, Heads &x, const Heads &like);
/// Splits the heads of `x` into `kvHeads` times `group`: the tensor gets a fifth dim behind them.
void splitGroups(Lowering &l, Heads &x, const SymbolicExpr &kvHeads, const SymbolicExpr &group);

/// `tensor` of shape `from` in the shape of result `result`; `sizes` are the result's as far as
/// they are not constant.
Value fitResult(Lowering &l, Value tensor, const Dims &from, Sizes sizes, unsigned result);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_HEADS_H
