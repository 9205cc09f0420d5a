//===- RoundWeights.cpp - algorithms that round weights ---------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/RoundWeights.h"

#include "GPTQ.h"
#include "RangeSearch.h"
#include "lowbit/Numerics/Parallel.h"
#include "lowbit/Numerics/Quantize.h"

#include <cmath>
#include <cstdio>

namespace lowbit {

/// Numerators and denominator of the output errors: tr(E H Eᵀ) over the groups of a layer.
static double outputEnergy(const std::vector<float> &e, int64_t rows, int64_t cols,
                           const std::vector<Moments> &moments, unsigned threads) {
  int64_t each = rows / int64_t(moments.size());
  double sum = 0;
  for (size_t g = 0; g < moments.size(); ++g)
    sum += quadraticTrace(e.data() + int64_t(g) * each * cols, each, moments[g].matrix(), threads);
  return sum;
}

static double errorEnergy(const float *w, const QuantizedWeights &result,
                          const std::vector<Moments> &moments, unsigned threads) {
  std::vector<float> e(result.q.size());
  for (int64_t r = 0; r < result.rows; ++r)
    for (int64_t c = 0; c < result.cols; ++c)
      e[r * result.cols + c] = w[r * result.cols + c] - result.real(r, c);
  return outputEnergy(e, result.rows, result.cols, moments, threads);
}

static bool check(const std::vector<Moments> &moments, const char *what, int64_t rows, int64_t cols,
                  std::string &error) {
  if (moments.empty())
    return true;
  if (rows % int64_t(moments.size()) != 0) {
    error = std::string(what) + " are given for " + std::to_string(moments.size()) +
            " groups, which do not divide " + std::to_string(rows) + " rows";
    return false;
  }
  for (const Moments &m : moments) {
    if (m.cols() != cols) {
      error = std::string(what) + " are of " + std::to_string(m.cols()) + " inputs, expected " +
              std::to_string(cols);
      return false;
    }
    if (!m.finished()) {
      error = std::string(what) + " are not finished";
      return false;
    }
    if (!m.finite()) {
      error = std::string(what) + " hold NaN or infinity";
      return false;
    }
  }
  return true;
}

/// Parameters of each range by RangeMethod::MSE, from the weights as they are.
static void searchRanges(const float *w, const RoundingOptions &options,
                         const std::vector<Moments> &moments, QuantizedWeights &result) {
  const Scheme &scheme = result.scheme;
  int64_t rows = result.rows, cols = result.cols;
  if (rows == 0 || cols == 0)
    return;
  bool weighted = options.weighted && !moments.empty();
  int64_t each = moments.empty() ? rows : rows / int64_t(moments.size());
  auto importanceOf = [&](int64_t row) {
    std::vector<float> values(weighted ? cols : 0);
    for (int64_t c = 0; c < int64_t(values.size()); ++c)
      values[c] = float(moments[row / each].second(c));
    return values;
  };
  auto search = [&](const float *range, const float *importance, int64_t count, int64_t index) {
    QuantParams params =
        searchParams(range, importance, count, scheme.type, scheme.symmetric, options.norm);
    result.scales[index] = params.scale;
    result.zeros[index] = params.zero;
  };
  if (scheme.granularity == Scheme::Granularity::Tensor) {
    std::vector<float> importance;
    if (weighted)
      for (int64_t r = 0; r < rows; ++r) {
        std::vector<float> own = importanceOf(r);
        importance.insert(importance.end(), own.begin(), own.end());
      }
    search(w, weighted ? importance.data() : nullptr, rows * cols, 0);
    return;
  }
  int64_t step = scheme.granularity == Scheme::Granularity::Group ? scheme.group : cols;
  constexpr int64_t panel = 16;
  parallelFor((rows + panel - 1) / panel, options.threads, [&](int64_t p) {
    std::vector<float> importance;
    for (int64_t r = p * panel; r < std::min(rows, (p + 1) * panel); ++r) {
      if (r == p * panel || r % each == 0)
        importance = importanceOf(r);
      for (int64_t c = 0; c < cols; c += step)
        search(w + r * cols + c, weighted ? importance.data() + c : nullptr,
               std::min(step, cols - c), result.scaleIndex(r, c));
    }
  });
}

static void roundToNearest(const float *w, QuantizedWeights &result) {
  for (int64_t r = 0; r < result.rows; ++r)
    for (int64_t c = 0; c < result.cols; ++c) {
      int64_t index = result.scaleIndex(r, c), at = r * result.cols + c;
      result.q[at] =
          int8_t(quantize(w[at], result.scales[index], result.zeros[index], result.scheme.type));
    }
}

static void measureWeights(const float *w, QuantizedWeights &result) {
  double max = 0, absolute = 0, squared = 0, weights = 0;
  for (int64_t r = 0; r < result.rows; ++r)
    for (int64_t c = 0; c < result.cols; ++c) {
      double own = w[r * result.cols + c], e = std::fabs(own - double(result.real(r, c)));
      max = std::max(max, e);
      absolute += e;
      squared += e * e;
      weights += own * own;
    }
  result.maxError = max;
  result.meanError = result.q.empty() ? 0 : absolute / double(result.q.size());
  result.relativeError = weights > 0 ? std::sqrt(squared / weights) : 0;
}

static bool apply(const float *w, const RoundingOptions &options,
                  const std::vector<Moments> &moments, QuantizedWeights &result) {
  switch (options.algorithm) {
  case RoundingAlgorithm::RTN:
    return true;
  case RoundingAlgorithm::MSE:
    searchRanges(w, options, moments, result);
    roundToNearest(w, result);
    return true;
  case RoundingAlgorithm::GPTQ: {
    bool grouped = result.scheme.granularity == Scheme::Granularity::Group;
    if (options.range == RangeMethod::MSE && (!grouped || options.actOrder))
      searchRanges(w, options, moments, result);
    int64_t each = result.rows / int64_t(moments.size());
    for (size_t g = 0; g < moments.size(); ++g)
      if (!gptq(w, int64_t(g) * each, int64_t(g + 1) * each, moments[g], options, result))
        return false;
    return true;
  }
  }
  return false;
}

std::optional<QuantizedWeights> roundWeights(const float *w, int64_t rows, int64_t cols,
                                             const Scheme &scheme, const RoundingOptions &options,
                                             const std::vector<Moments> &moments,
                                             std::string &error) {
  static const std::vector<Moments> none;
  const std::vector<Moments> &heldOut = options.heldOut ? *options.heldOut : none;
  if (options.algorithm == RoundingAlgorithm::GPTQ && moments.empty()) {
    error = "GPTQ needs the second moments of the layer's input";
    return std::nullopt;
  }
  if (!check(moments, "the moments", rows, cols, error) ||
      !check(heldOut, "the held-out moments", rows, cols, error))
    return std::nullopt;
  std::optional<QuantizedWeights> plain = rtn(w, rows, cols, scheme, error);
  if (!plain)
    return std::nullopt;

  QuantizedWeights result = *plain;
  if (!apply(w, options, moments, result)) {
    std::vector<std::string> notes = std::move(result.report.notes);
    result = *plain;
    result.report.notes = std::move(notes);
    result.report.fellBack = true;
  }

  RoundingReport &report = result.report;
  auto compare = [&](const std::vector<Moments> &on, std::optional<double> &own,
                     std::optional<double> &rtnOwn) {
    if (on.empty())
      return;
    double all =
        outputEnergy(std::vector<float>(w, w + rows * cols), rows, cols, on, options.threads);
    auto relative = [&](const QuantizedWeights &q) {
      return all > 0 ? errorEnergy(w, q, on, options.threads) / all : 0.0;
    };
    rtnOwn = relative(*plain);
    bool same = options.algorithm == RoundingAlgorithm::RTN || report.fellBack;
    own = same ? *rtnOwn : relative(result);
  };
  compare(moments, report.outputError, report.rtnOutputError);
  compare(heldOut, report.heldOutError, report.rtnHeldOutError);

  bool held = report.heldOutError.has_value();
  const std::optional<double> &own = held ? report.heldOutError : report.outputError;
  const std::optional<double> &nearest = held ? report.rtnHeldOutError : report.rtnOutputError;
  if (options.fallBack && own && *own > *nearest) {
    char text[160];
    std::snprintf(text, sizeof(text),
                  "its output error%s is %.3g, that of rounding to the nearest %.3g",
                  held ? " on held-out rows" : "", *own, *nearest);
    RoundingReport before = std::move(report);
    result = *plain;
    result.report = std::move(before);
    report.outputError = report.rtnOutputError;
    report.heldOutError = report.rtnHeldOutError;
    report.fellBack = true;
    report.notes.push_back(text);
  }
  measureWeights(w, result);
  return result;
}

} // namespace lowbit
