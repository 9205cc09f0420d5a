//===- Reference.cpp - what every fast kernel must equal --------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Reference.h"

#include "lowbit/Numerics/Quantize.h"

namespace lowbit {

/// x - zero; fits easily: |x| ≤ 255 and the zero point is a value of the type.
static int32_t centred(const QuantizedInput &x, int64_t index) {
  int32_t value = isSigned(x.type) ? static_cast<const int8_t *>(x.data)[index]
                                   : static_cast<const uint8_t *>(x.data)[index];
  return value - x.zero;
}

/// Wrapping addition; signed overflow would be undefined.
static void accumulate(int32_t &acc, int32_t product) {
  acc = int32_t(uint32_t(acc) + uint32_t(product));
}

void referenceLinear(QuantizedInput x, const int8_t *w, int64_t m, int64_t n, int64_t k,
                     int32_t *acc) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      int32_t sum = 0;
      for (int64_t c = 0; c < k; ++c)
        accumulate(sum, centred(x, i * k + c) * w[j * k + c]);
      acc[i * n + j] = sum;
    }
}

/// One output pixel of one output channel.
static int32_t convolve(const QuantizedInput &x, const int8_t *w, const Conv2dShape &s,
                        int64_t batch, int64_t o, int64_t oy, int64_t ox) {
  int64_t inPerGroup = s.channels / s.groups;
  int64_t firstChannel = o / (s.outChannels / s.groups) * inPerGroup;
  int32_t sum = 0;
  for (int64_t c = 0; c < inPerGroup; ++c)
    for (int64_t ky = 0; ky < s.kernelH; ++ky)
      for (int64_t kx = 0; kx < s.kernelW; ++kx) {
        int64_t y = oy * s.strideH + ky * s.dilationH - s.padTop;
        int64_t xx = ox * s.strideW + kx * s.dilationW - s.padLeft;
        if (y < 0 || y >= s.height || xx < 0 || xx >= s.width)
          continue;
        int64_t at = ((batch * s.channels + firstChannel + c) * s.height + y) * s.width + xx;
        accumulate(sum,
                   centred(x, at) * w[((o * inPerGroup + c) * s.kernelH + ky) * s.kernelW + kx]);
      }
  return sum;
}

void referenceConv2d(QuantizedInput x, const int8_t *w, const Conv2dShape &shape, int32_t *acc) {
  for (int64_t b = 0; b < shape.batch; ++b)
    for (int64_t o = 0; o < shape.outChannels; ++o)
      for (int64_t y = 0; y < shape.outHeight(); ++y)
        for (int64_t xx = 0; xx < shape.outWidth(); ++xx)
          *acc++ = convolve(x, w, shape, b, o, y, xx);
}

void referenceRequantize(const int32_t *acc, int64_t outer, int64_t channels, int64_t inner,
                         const int32_t *bias, const float *multipliers, int32_t zero, int32_t lo,
                         int32_t hi, int8_t *out) {
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t i = 0; i < inner; ++i)
        *out++ = int8_t(requantize(*acc++, bias ? bias[c] : 0, multipliers[c], zero, lo, hi));
}

void referenceWeightOnlyLinear(const float *x, int64_t m, const QuantizedWeights &w,
                               const float *bias, float *y) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < w.rows; ++j) {
      double sum = bias ? bias[j] : 0.0;
      for (int64_t c = 0; c < w.cols; ++c)
        sum += double(x[i * w.cols + c]) * double(w.real(j, c));
      y[i * w.rows + j] = float(sum);
    }
}

} // namespace lowbit
