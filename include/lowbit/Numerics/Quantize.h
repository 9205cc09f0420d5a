//===- lowbit/Numerics/Quantize.h - the arithmetic of one value -------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// real = scale * (q - zero). Every target computes exactly what these functions
// compute. They expect the default rounding mode (to nearest, ties to even) and
// live in a source file that is compiled without floating-point contraction.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_QUANTIZE_H
#define LOWBIT_NUMERICS_QUANTIZE_H

#include "lowbit/Numerics/Scheme.h"

#include <cstdint>
#include <optional>

namespace lowbit {

struct QuantParams {
  float scale = 1.0f;
  int32_t zero = 0;
};

/// To the nearest integer, ties to the even one: 0.5 → 0, 1.5 → 2, -2.5 → -2.
float roundHalfEven(float x);

/// ONNX QuantizeLinear: saturate(roundHalfEven(x / scale) + zero). It divides (a multiplication
/// with 1/scale gives other ties) and adds the zero point after rounding. NaN gives the smallest
/// value of the type, as onnxruntime's kernels do.
int32_t quantize(float x, float scale, int32_t zero, IntType type);

/// scale * (q - zero), the difference exact, one rounding of the difference and one of the product.
float dequantize(int32_t q, float scale, int32_t zero);

/// The parameters that cover [min, max] widened to include 0.
///
/// Symmetric: scale = absmax / (2^(bits-1) - 1), so that -x is representable where x is: i8 uses
/// [-127, 127], i4 [-7, 7]; the zero point is 0, or 2^(bits-1) for unsigned types.
/// Asymmetric: scale = (max - min) / (2^bits - 1), the zero point rounded and clamped to the type,
/// so that 0.0 is exactly representable.
/// An all-zero range has scale 1; the scale is never 0 or denormal. Nothing where min > max or
/// either is not finite.
std::optional<QuantParams> chooseParams(float min, float max, IntType type, bool symmetric);

/// The factor of an integer epilogue: input scale * weight scale / output scale, computed in
/// double and rounded once.
float requantMultiplier(float inputScale, float weightScale, float outputScale);

/// The one epilogue of every integer kernel: acc + bias in wrapping int32 → float (nearest even)
/// → one multiplication, never fused → roundHalfEven → + zero → saturate to [lo, hi].
/// A fused Relu is lo = max(lo, zero).
int32_t requantize(int32_t acc, int32_t bias, float multiplier, int32_t zero, int32_t lo,
                   int32_t hi);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_QUANTIZE_H
