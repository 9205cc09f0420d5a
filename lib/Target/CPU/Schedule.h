//===- Schedule.h - what the schedules of the CPU kernels share ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CPU_SCHEDULE_H
#define LOWBIT_LIB_TARGET_CPU_SCHEDULE_H

#include "KernelTable.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"

namespace lowbit::cpu {

/// Rows of a linear layer that are one task: a multiple of 6, 8, 12 and 16, so that every chunk but
/// the last has full tiles.
inline constexpr int64_t kChunk = 96;

/// Vectors of 16 columns per block: wide enough for all columns, at most four; `even`: not one.
int64_t pickVectors(int64_t n, bool even);
/// Rows per tile: what 32 registers hold beside the weights with `registers` accumulators each,
/// preferring a number that divides `rows`.
int64_t pickRows(int64_t vectors, int64_t rows, int64_t registers = 1);

Value emptyLike(OpBuilder &b, Location loc, ArrayRef<OpFoldResult> sizes, Type element);
/// x xor 0x80: a signed byte plus 128, as an unsigned one.
Value flipSign(OpBuilder &b, Location loc, Value value);
Value transpose(OpBuilder &b, Location loc, Value value, ArrayRef<int64_t> permutation);
Value pad(OpBuilder &b, Location loc, Value value, ArrayRef<int64_t> low, ArrayRef<int64_t> high,
          Value filler);
/// [..., K] to [rows, K].
Value collapseRows(OpBuilder &b, Location loc, Value value);
/// [rows, N] to the leading dimensions of `like`.
Value expandRows(OpBuilder &b, Location loc, Value value, Value like);

/// A linear layer on integers whose sums are float becomes a launch of cpu.qgemm; failure, with the
/// reason in `why` and IR unchanged, where that kernel cannot take it.
LogicalResult scheduleFloatSums(LinearOp op, KernelTable &kernels, std::string &why);
/// Ranges of rows become a launch of cpu.rowquant; failure as above.
LogicalResult scheduleDynamicQuantize(DynamicQuantizeOp op, KernelTable &kernels, std::string &why);

} // namespace lowbit::cpu

#endif // LOWBIT_LIB_TARGET_CPU_SCHEDULE_H
