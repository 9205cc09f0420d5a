//===- Blocks.h - how a layer is cut into pieces of work --------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_NUMERICS_BLOCKS_H
#define LOWBIT_LIB_NUMERICS_BLOCKS_H

#include "lowbit/Numerics/Scheme.h"

#include <algorithm>
#include <cstdint>

namespace lowbit {

/// Columns that are worked on together: a multiple of the group, so that none is cut.
inline int64_t blockSize(const Scheme &scheme, int64_t cols) {
  int64_t size = 128;
  if (scheme.granularity == Scheme::Granularity::Group)
    size = (size + scheme.group - 1) / scheme.group * scheme.group;
  return std::max<int64_t>(std::min(size, cols), 1);
}

/// Rows that one thread works on at a time: enough to make use of each tile that it reads, few
/// enough for several threads; of the size alone.
inline int64_t panelRows(int64_t rows) { return std::clamp<int64_t>((rows + 15) / 16, 8, 256); }

} // namespace lowbit

#endif // LOWBIT_LIB_NUMERICS_BLOCKS_H
