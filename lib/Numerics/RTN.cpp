//===- RTN.cpp - weights rounded to the nearest -----------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/RTN.h"

#include "lowbit/Numerics/Observer.h"
#include "lowbit/Numerics/Quantize.h"

#include <algorithm>
#include <cmath>

namespace lowbit {

float QuantizedWeights::real(int64_t row, int64_t col) const {
  int64_t index = scaleIndex(row, col);
  return dequantize(value(row, col), scales[index], zeros[index]);
}

void QuantizedWeights::measureErrors(const float *w) {
  double largest = 0, absolute = 0, squared = 0, weights = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      double value = w[r * cols + c], error = std::fabs(value - double(real(r, c)));
      largest = std::max(largest, error);
      absolute += error;
      squared += error * error;
      weights += value * value;
    }
  maxError = largest;
  meanError = q.empty() ? 0 : absolute / double(q.size());
  relativeError = weights > 0 ? std::sqrt(squared / weights) : 0;
}

/// The sums behind the reported errors; in double, so that large matrices keep their digits.
namespace {
struct ErrorSums {
  double max = 0, absolute = 0, squared = 0, weights = 0;
};
} // namespace

static void roundRange(const float *w, int64_t count, QuantParams params, IntType type, int8_t *q,
                       ErrorSums &sums) {
  for (int64_t i = 0; i < count; ++i) {
    int32_t value = quantize(w[i], params.scale, params.zero, type);
    q[i] = int8_t(value);
    double error = std::fabs(double(w[i]) - double(dequantize(value, params.scale, params.zero)));
    sums.max = std::max(sums.max, error);
    sums.absolute += error;
    sums.squared += error * error;
    sums.weights += double(w[i]) * double(w[i]);
  }
}

std::optional<QuantizedWeights> rtn(const float *w, int64_t rows, int64_t cols,
                                    const Scheme &scheme, std::string &error) {
  if (bitWidth(scheme.type) > 8) {
    error =
        std::string("weights of type ") + name(scheme.type) + " are not supported (8 bits at most)";
    return std::nullopt;
  }
  bool grouped = scheme.granularity == Scheme::Granularity::Group;
  if (grouped && scheme.group <= 0) {
    error = "the group size is " + std::to_string(scheme.group) + ", expected at least 1";
    return std::nullopt;
  }
  if (rows < 0 || cols < 0) {
    error = "the matrix has a negative size";
    return std::nullopt;
  }

  QuantizedWeights result;
  result.scheme = scheme;
  result.rows = rows;
  result.cols = cols;
  if (grouped)
    result.groups = cols / scheme.group + (cols % scheme.group != 0);
  result.q.resize(rows * cols);

  // A range is a run of consecutive elements that share a scale; none crosses the end of a row,
  // except that of a whole tensor.
  bool whole = scheme.granularity == Scheme::Granularity::Tensor;
  int64_t lines = whole ? 1 : rows;
  int64_t line = whole ? rows * cols : cols;
  int64_t step = grouped ? scheme.group : std::max<int64_t>(line, 1);
  int64_t perLine = grouped ? result.groups : 1;
  result.scales.reserve(lines * perLine);
  result.zeros.reserve(lines * perLine);
  ErrorSums sums;
  for (int64_t r = 0; r < lines; ++r)
    for (int64_t g = 0; g < perLine; ++g) {
      int64_t begin = g * step, count = std::min(step, line - begin);
      const float *range = w + r * line + begin;
      MinMaxObserver observer;
      observer.observe(range, count);
      if (observer.nanCount() + observer.infCount() != 0) {
        int64_t i = 0;
        while (std::isfinite(range[i]))
          ++i;
        int64_t flat = r * line + begin + i;
        error = std::string("weight [") + std::to_string(flat / cols) + ", " +
                std::to_string(flat % cols) + "] is " + (std::isnan(range[i]) ? "NaN" : "infinite");
        return std::nullopt;
      }
      QuantParams params;
      if (count > 0)
        params = *chooseParams(observer.min(), observer.max(), scheme.type, scheme.symmetric);
      result.scales.push_back(params.scale);
      result.zeros.push_back(params.zero);
      roundRange(range, count, params, scheme.type, result.q.data() + r * line + begin, sums);
    }
  result.maxError = sums.max;
  result.meanError = result.q.empty() ? 0 : sums.absolute / double(result.q.size());
  result.relativeError = sums.weights > 0 ? std::sqrt(sums.squared / sums.weights) : 0;
  return result;
}

void roundToNearest(const float *w, QuantizedWeights &result) {
  for (int64_t r = 0; r < result.rows; ++r)
    for (int64_t c = 0; c < result.cols; ++c) {
      int64_t index = result.scaleIndex(r, c), at = r * result.cols + c;
      result.q[at] =
          int8_t(quantize(w[at], result.scales[index], result.zeros[index], result.scheme.type));
    }
}

} // namespace lowbit
