//===- Contraction.h - what a linalg op multiplies ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CPU_CONTRACTION_H
#define LOWBIT_LIB_TARGET_CPU_CONTRACTION_H

#include "lowbit/Support/LLVM.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"

namespace lowbit::cpu {

/// A linalg.generic of f32 tensors that adds up products of its two inputs.
bool isMultiplyAdd(linalg::GenericOp op);

/// One operand of a product of matrices: each dim belongs to a role, and dims of size 1 that no
/// loop walks to the one before them.
struct MatrixOperand {
  SmallVector<int64_t> order; ///< The operand's dims, by role.
  SmallVector<int64_t> roles; ///< Of each dim in `order`: ascending.
};

/// out[g, m, n] = init + Σ_k a[g, m, k] · b[g, k, n] with any number of loops for each letter.
struct Contraction {
  SmallVector<unsigned> g, m, n, k; ///< Loops, g, m and n in the order of the result's dims.
  bool sharedA = false;             ///< `a` is the same for all g.

  /// Nothing where the loops are no product of matrices with the result in the order g, m, n.
  static std::optional<Contraction> get(linalg::GenericOp op);

  /// The dims of input `index` in the order of `loops`, the role of each the list it is from.
  static MatrixOperand arrange(linalg::GenericOp op, unsigned index,
                               ArrayRef<ArrayRef<unsigned>> loops);
};

/// out[b, y, x, f] = init + Σ in[b, y · s + i · d, x · s + j · d, c] · w[i, j, c, f]; where
/// depthwise, without c and its sum: channel f of the input.
struct ChannelsLastConv {
  bool depthwise;
  int64_t strides[2], dilations[2];
  static std::optional<ChannelsLastConv> get(linalg::GenericOp op);
};

} // namespace lowbit::cpu

#endif // LOWBIT_LIB_TARGET_CPU_CONTRACTION_H
