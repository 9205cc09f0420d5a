//===- GPTQ.h - rounding with the errors made up for ------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_NUMERICS_GPTQ_H
#define LOWBIT_LIB_NUMERICS_GPTQ_H

#include "lowbit/Numerics/RoundWeights.h"

namespace lowbit {

/// Rounds rows [begin, end) of `w` [rows, cols] by GPTQ with the moments of their input into
/// `result`, whose parameters are replaced, except one of a whole tensor. False, with a note in
/// the report, where H cannot be factorized; the rows are then as they were.
bool gptq(const float *w, int64_t begin, int64_t end, const Moments &moments,
          const RoundingOptions &options, QuantizedWeights &result);

} // namespace lowbit

#endif // LOWBIT_LIB_NUMERICS_GPTQ_H
