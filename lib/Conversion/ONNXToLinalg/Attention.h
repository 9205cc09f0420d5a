//===- Attention.h - which keys a query sees --------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_ATTENTION_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_ATTENTION_H

#include "Heads.h"

namespace lowbit::onnx {

/// tanh(x / cap) * cap; `x` itself where the cap is not positive.
Value softcapped(OpBuilder &b, Location loc, Value x, double cap);

/// What turns scores into logits: scale, softcap, attn_mask, causality, window and length.
struct AttentionMask {
  Lowering &l;
  Type wide; ///< The scores' element type.
  const Heads &q, &k;
  SymbolicExpr group;
  OpFoldResult past; ///< How many keys come before the first query.
  Value lengths;     ///< Valid keys of each batch entry, null where all are.

  /// `raw` [batch, kvHeads, group, query, key] times `factor`, masked keys at minus infinity.
  FailureOr<Value> apply(Value raw, Value factor, ArrayRef<OpFoldResult> sizes);

private:
  /// attn_mask as it is read from the five loops; null where the node has none.
  Value broadcastMask(ArrayRef<OpFoldResult> sizes, AffineMap &map);
};

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_ATTENTION_H
