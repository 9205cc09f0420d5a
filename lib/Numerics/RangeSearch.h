//===- RangeSearch.h - parameters of the smallest rounding error ------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_NUMERICS_RANGESEARCH_H
#define LOWBIT_LIB_NUMERICS_RANGESEARCH_H

#include "lowbit/Numerics/Quantize.h"

namespace lowbit {

/// chooseParams over the range of `w`, which is finite.
QuantParams minMaxParams(const float *w, int64_t count, IntType type, bool symmetric);

/// The scale and zero point of the smallest Σ h |w - ŵ|^norm that the search finds: ranges shrunk
/// from the full one to a fifth of it, then zero points beside the best, then the scale of least
/// squares for the integers so found. `importance`: h >= 0, or null for 1. Never worse than
/// minMaxParams.
QuantParams searchParams(const float *w, const float *importance, int64_t count, IntType type,
                         bool symmetric, double norm);

} // namespace lowbit

#endif // LOWBIT_LIB_NUMERICS_RANGESEARCH_H
