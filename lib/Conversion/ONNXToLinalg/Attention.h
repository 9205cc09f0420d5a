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
class AttentionMask {
public:
  /// `wide`: the scores' element type; `past`: how many keys come before the first query;
  /// `lengths`: the valid keys of each batch entry, null where all are.
  AttentionMask(Lowering &l, Type wide, const Heads &q, const Heads &k, SymbolicExpr group,
                OpFoldResult past, Value lengths)
      : l(l), wide(wide), q(q), k(k), group(std::move(group)), past(past), lengths(lengths) {}

  /// Reads the attributes and broadcasts attn_mask; `sizes` are those of all scores [batch,
  /// kvHeads, group, query, key].
  LogicalResult prepare(ArrayRef<OpFoldResult> sizes);
  /// The number of keys after the last one that any query before `query` sees, at most `keys`.
  OpFoldResult keysBefore(OpFoldResult query, OpFoldResult keys);
  /// `raw`, the scores of the queries from `first` on and of the first keys, times `factor`; masked
  /// keys at minus infinity.
  Value apply(Value raw, Value factor, OpFoldResult first);

private:
  void broadcastMask(ArrayRef<OpFoldResult> sizes);

  Lowering &l;
  Type wide;
  const Heads &q, &k;
  SymbolicExpr group;
  OpFoldResult past;
  Value lengths;
  bool causal = false;
  int64_t left = -1, right = -1;
  Value mask; ///< attn_mask as it is read from the five loops; null where the node has none.
  AffineMap maskMap;
  OpFoldResult longest; ///< The greatest of `lengths`.
  OpFoldResult allQueries;
};

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_ATTENTION_H
