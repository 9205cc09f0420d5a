//===- Descent.h - coordinate descent on rounded weights --------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_NUMERICS_DESCENT_H
#define LOWBIT_LIB_NUMERICS_DESCENT_H

#include "lowbit/Numerics/RoundWeights.h"

namespace lowbit {

/// Lowers tr(E (H + λ) Eᵀ), E = w - ŵ, λ = damping · mean H_kk, of rows [begin, end) of `result`
/// step by step; see RoundingOptions::sweeps.
void descend(const float *w, int64_t begin, int64_t end, const Moments &moments, double damping,
             const RoundingOptions &options, QuantizedWeights &result);

} // namespace lowbit

#endif // LOWBIT_LIB_NUMERICS_DESCENT_H
