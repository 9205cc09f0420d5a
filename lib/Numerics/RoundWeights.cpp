//===- RoundWeights.cpp - algorithms that round weights ---------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/RoundWeights.h"

#include "Descent.h"
#include "GPTQ.h"
#include "HQQ.h"
#include "RangeSearch.h"
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

/// The part of `options.algorithm` that differs from RTN, on `result` of RTN. False, with a note,
/// where it cannot be carried out.
static bool apply(const float *w, const RoundingOptions &options,
                  const std::vector<Moments> &moments, QuantizedWeights &result) {
  auto toNearest = [&](WeightRange method) {
    searchRanges(w, method, options.norm, moments, options.threads, result);
    roundToNearest(w, result);
  };
  auto sweep = [&](size_t group, double damping) {
    int64_t each = result.rows / int64_t(moments.size());
    descend(w, int64_t(group) * each, int64_t(group + 1) * each, moments[group], damping, options,
            result);
  };
  switch (options.algorithm) {
  case RoundingAlgorithm::RTN:
    return true;
  case RoundingAlgorithm::MSE:
    toNearest(moments.empty() ? WeightRange::MSE : WeightRange::WeightedMSE);
    return true;
  case RoundingAlgorithm::HQQ:
    hqq(w, options.threads, result);
    return true;
  case RoundingAlgorithm::AWQ:
    toNearest(WeightRange::OutputMSE);
    for (size_t g = 0; g < moments.size(); ++g)
      sweep(g, options.damping);
    return true;
  case RoundingAlgorithm::GPTQ: {
    if (result.scheme.granularity == Scheme::Granularity::Tensor)
      toNearest(options.range);
    int64_t each = result.rows / int64_t(moments.size());
    // Groups of a convolution whose moments do not serve keep the values that they have.
    bool any = false;
    for (size_t g = 0; g < moments.size(); ++g)
      if (gptq(w, int64_t(g) * each, int64_t(g + 1) * each, moments[g], options, result)) {
        sweep(g, result.report.damping);
        any = true;
      }
    return any;
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
  if (moments.empty() && (options.algorithm == RoundingAlgorithm::GPTQ ||
                          options.algorithm == RoundingAlgorithm::AWQ)) {
    error = std::string(options.algorithm == RoundingAlgorithm::GPTQ ? "GPTQ" : "AWQ") +
            " needs the second moments of the layer's input";
    return std::nullopt;
  }
  if (!check(moments, "the moments", rows, cols, error) ||
      !check(heldOut, "the held-out moments", rows, cols, error))
    return std::nullopt;
  std::optional<QuantizedWeights> plain = rtn(w, rows, cols, scheme, error);
  if (!plain)
    return std::nullopt;

  std::optional<std::vector<float>> targets;
  if (options.cross) {
    targets = floatTargets(w, rows, cols, moments, *options.cross, options.targetStrength,
                           options.targetRidge, options.threads, error);
    if (!targets)
      return std::nullopt;
  }
  // What outputs are compared with.
  const float *aim = targets ? targets->data() : w;

  QuantizedWeights result = *plain;
  if (!apply(aim, options, moments, result)) {
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
      return all > 0 ? errorEnergy(aim, q, on, options.threads) / all : 0.0;
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
  result.measureErrors(w);
  return result;
}

} // namespace lowbit
