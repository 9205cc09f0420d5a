//===- HQQ.h - zero points by half-quadratic splitting ----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_NUMERICS_HQQ_H
#define LOWBIT_LIB_NUMERICS_HQQ_H

#include "lowbit/Numerics/RTN.h"

namespace lowbit {

/// Fits the parameters of `result`, which hold RTN's, to `w` by HQQ and rounds again. Ranges whose
/// Σ |w - ŵ|² does not fall keep RTN's.
void hqq(const float *w, unsigned threads, QuantizedWeights &result);

} // namespace lowbit

#endif // LOWBIT_LIB_NUMERICS_HQQ_H
