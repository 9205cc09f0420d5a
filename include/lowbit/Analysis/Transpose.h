//===- Transpose.h - ops that only permute dims ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_ANALYSIS_TRANSPOSE_H
#define LOWBIT_ANALYSIS_TRANSPOSE_H

#include "lowbit/Support/LLVM.h"
#include "llvm/ADT/SmallVector.h"
#include <optional>

namespace lowbit {
/// Where `op` (a linalg.transpose, or a linalg.generic that does the same) only permutes the dims
/// of its first operand, a tensor: dim d of the result is dim permutation[d] of the operand. Null
/// is no such op.
std::optional<SmallVector<int64_t>> asTranspose(Operation *op);
} // namespace lowbit

#endif // LOWBIT_ANALYSIS_TRANSPOSE_H
