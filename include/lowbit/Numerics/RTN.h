//===- lowbit/Numerics/RTN.h - weights rounded to the nearest ---------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_RTN_H
#define LOWBIT_NUMERICS_RTN_H

#include "lowbit/Numerics/Scheme.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lowbit {

/// What roundWeights did, for the report; see RoundWeights.h.
struct RoundingReport {
  /// tr((W - Ŵ) H (W - Ŵ)ᵀ) / tr(W H Wᵀ), the layer's relative squared output error on the rows
  /// behind H: of this result, and of plain RTN. Nothing without moments; 0 where tr(W H Wᵀ) is.
  std::optional<double> outputError, rtnOutputError;
  /// The same on rows that the algorithm did not see.
  std::optional<double> heldOutError, rtnHeldOutError;
  /// GPTQ: what was added to H's diagonal, as a fraction of its mean.
  double damping = 0;
  /// Columns whose inputs were always zero.
  int64_t deadColumns = 0;
  /// The result is RTN's, though another algorithm was asked for; a note says why.
  bool fellBack = false;
  /// Full sentences without a period, e.g. why it fell back.
  std::vector<std::string> notes;
};

/// A quantized matrix [rows, cols], row-major, cols = the reduction axis K.
struct QuantizedWeights {
  Scheme scheme;
  int64_t rows = 0, cols = 0;
  /// Scales per row: 1 for Tensor and Channel, ceil(cols / scheme.group) for Group.
  int64_t groups = 1;
  /// One value per byte [rows, cols]; of unsigned types the raw byte. See value().
  std::vector<int8_t> q;
  /// Tensor: [1]; Channel: [rows]; Group: [rows, groups].
  std::vector<float> scales;
  /// As scales. Symmetric schemes have them too (0, or 2^(bits-1) for unsigned types).
  std::vector<int32_t> zeros;
  /// Of |w - dequantized w| over all elements.
  double maxError = 0, meanError = 0;
  /// ‖w - dequantized w‖₂ / ‖w‖₂; 0 for an all-zero matrix.
  double relativeError = 0;
  RoundingReport report;

  /// Sets the errors to those against `w` [rows, cols], row-major.
  void measureErrors(const float *w);

  /// The quantized value at [row, col].
  int32_t value(int64_t row, int64_t col) const {
    int8_t byte = q[row * cols + col];
    return isSigned(scheme.type) ? byte : uint8_t(byte);
  }
  /// Index into scales and zeros of element [row, col].
  int64_t scaleIndex(int64_t row, int64_t col) const {
    switch (scheme.granularity) {
    case Scheme::Granularity::Tensor:
      return 0;
    case Scheme::Granularity::Channel:
      return row;
    case Scheme::Granularity::Group:
      return row * groups + col / scheme.group;
    }
    return 0;
  }
  /// The real value that [row, col] stands for.
  float real(int64_t row, int64_t col) const;
};

/// Rounds `w` [rows, cols] to the nearest values of `scheme` (types of up to 8 bits), with the
/// parameters of chooseParams over each range. Nothing, with the reason in `error`, where a weight
/// is not finite or the scheme cannot apply.
std::optional<QuantizedWeights> rtn(const float *w, int64_t rows, int64_t cols,
                                    const Scheme &scheme, std::string &error);

/// Rounds `w` [result.rows, result.cols] again, with the parameters that `result` has.
void roundToNearest(const float *w, QuantizedWeights &result);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_RTN_H
