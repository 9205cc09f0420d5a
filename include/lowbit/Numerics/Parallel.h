//===- lowbit/Numerics/Parallel.h - loops over fixed pieces of work ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_PARALLEL_H
#define LOWBIT_NUMERICS_PARALLEL_H

#include <cstdint>
#include <functional>

namespace lowbit {

/// Calls body(0) … body(count - 1), each once, on up to `threads` threads (0: one per core), in no
/// particular order, and returns when all are done. Who cuts work into pieces must do so by the
/// problem's size alone and write disjoint results; then the results do not depend on `threads`.
/// Where the system gives fewer threads, the pieces run on those there are.
void parallelFor(int64_t count, unsigned threads, const std::function<void(int64_t)> &body);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_PARALLEL_H
