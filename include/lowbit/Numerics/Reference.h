//===- lowbit/Numerics/Reference.h - what every fast kernel must equal ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Scalar kernels, written to be read. The integer ones define the result bit for
// bit; the float one is summed in double and is what tolerances are measured from.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_REFERENCE_H
#define LOWBIT_NUMERICS_REFERENCE_H

#include "lowbit/Numerics/RTN.h"
#include "lowbit/Numerics/Scheme.h"

#include <cstdint>

namespace lowbit {

/// Quantized activations: I8 or U8, one byte each.
struct QuantizedInput {
  const void *data;
  IntType type;
  int32_t zero;
};

/// acc[m, n] = Σ_k (x[m, k] - zero) · w[n, k] in wrapping int32. x is [m, k], w is [n, k], acc is
/// [m, n], all row-major.
void referenceLinear(QuantizedInput x, const int8_t *w, int64_t m, int64_t n, int64_t k,
                     int32_t *acc);

/// A 2-d convolution, NCHW activations and OIHW weights.
struct Conv2dShape {
  int64_t batch, channels, height, width;
  /// `outChannels` and `channels` are multiples of `groups`.
  int64_t outChannels, groups = 1;
  int64_t kernelH, kernelW;
  int64_t strideH = 1, strideW = 1, dilationH = 1, dilationW = 1;
  int64_t padTop = 0, padLeft = 0, padBottom = 0, padRight = 0;

  int64_t outHeight() const {
    return (height + padTop + padBottom - (kernelH - 1) * dilationH - 1) / strideH + 1;
  }
  int64_t outWidth() const {
    return (width + padLeft + padRight - (kernelW - 1) * dilationW - 1) / strideW + 1;
  }
};

/// acc[b, o, y, x] as referenceLinear; padding has the value `x.zero`, that is 0.0. w is
/// [outChannels, channels / groups, kernelH, kernelW], acc [batch, outChannels, outH, outW].
void referenceConv2d(QuantizedInput x, const int8_t *w, const Conv2dShape &shape, int32_t *acc);

/// The epilogue of [outer, channels, inner] accumulators (inner = 1 for linear, outH · outW for
/// conv): requantize() with the bias and multiplier of the channel. `bias` may be null. `out`
/// holds one raw byte per value, signed or unsigned as [lo, hi] says.
void referenceRequantize(const int32_t *acc, int64_t outer, int64_t channels, int64_t inner,
                         const int32_t *bias, const float *multipliers, int32_t zero, int32_t lo,
                         int32_t hi, int8_t *out);

/// y[m, n] = Σ_k x[m, k] · real(w[n, k]) + bias[n], summed in double. `bias` may be null.
void referenceWeightOnlyLinear(const float *x, int64_t m, const QuantizedWeights &w,
                               const float *bias, float *y);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_REFERENCE_H
