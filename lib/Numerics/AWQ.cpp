//===- AWQ.cpp - scales of a layer's inputs ---------------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/AWQ.h"

#include "RangeSearch.h"

#include <algorithm>
#include <cmath>

namespace lowbit {

static constexpr int64_t judgedRows = 1024;
/// The smallest mean |x| that counts, as in the authors' code.
static constexpr double smallest = 1e-4;

namespace {
struct Search {
  const Moments &moments;
  const AWQOptions &options;
  std::string &error;
  int64_t cols;
  /// The rows that judge, of each layer, and Σ tr(W H Wᵀ).
  std::vector<std::vector<float>> weights = {};
  double energy = 0;

  std::vector<double> meanSizes() const;
  std::vector<float> scalesAt(const std::vector<double> &sizes, double alpha) const;
  /// Σ tr(E H Eᵀ); negative, with `error`, where a layer cannot be rounded.
  double errorWith(const std::vector<AWQLayer> &layers, const std::vector<float> &scales) const;
};
} // namespace

std::vector<double> Search::meanSizes() const {
  std::vector<double> sizes(cols);
  for (int64_t c = 0; c < cols; ++c)
    sizes[c] = moments.absMean(c);
  if (options.classes.empty())
    return sizes;
  std::vector<double> sum(cols), count(cols);
  for (int64_t c = 0; c < cols; ++c) {
    sum[options.classes[c]] += sizes[c];
    count[options.classes[c]] += 1;
  }
  for (int64_t c = 0; c < cols; ++c)
    sizes[c] = sum[options.classes[c]] / count[options.classes[c]];
  return sizes;
}

std::vector<float> Search::scalesAt(const std::vector<double> &sizes, double alpha) const {
  std::vector<double> powers(cols);
  for (int64_t c = 0; c < cols; ++c)
    powers[c] = std::max(std::pow(std::max(sizes[c], smallest), alpha), smallest);
  auto [least, most] = std::minmax_element(powers.begin(), powers.end());
  double middle = std::sqrt(*least * *most);
  std::vector<float> scales(cols);
  for (int64_t c = 0; c < cols; ++c)
    scales[c] = float(powers[c] / middle);
  return scales;
}

double Search::errorWith(const std::vector<AWQLayer> &layers,
                         const std::vector<float> &scales) const {
  std::vector<float> inverse(cols);
  for (int64_t c = 0; c < cols; ++c)
    inverse[c] = 1.0f / scales[c];
  std::vector<Moments> scaledMoments;
  if (options.range == WeightRange::WeightedMSE || options.range == WeightRange::OutputMSE)
    scaledMoments.push_back(moments.scaled(inverse.data()));
  double sum = 0;
  for (size_t l = 0; l < layers.size(); ++l) {
    const std::vector<float> &w = weights[l];
    int64_t rows = int64_t(w.size()) / cols;
    std::vector<float> scaled(w.size());
    for (int64_t i = 0; i < int64_t(w.size()); ++i)
      scaled[i] = w[i] * scales[i % cols];
    std::optional<QuantizedWeights> q = rtn(scaled.data(), rows, cols, layers[l].scheme, error);
    if (!q)
      return -1;
    if (options.range != WeightRange::MinMax) {
      searchRanges(scaled.data(), options.range, 2.0, scaledMoments, options.threads, *q);
      roundToNearest(scaled.data(), *q);
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c)
        scaled[r * cols + c] = w[r * cols + c] - q->real(r, c) / scales[c];
    sum += quadraticTrace(scaled.data(), rows, moments.matrix(), options.threads);
  }
  return sum;
}

std::optional<AWQScales> searchAWQScales(const std::vector<AWQLayer> &layers,
                                         const Moments &moments, const AWQOptions &options,
                                         std::string &error) {
  if (!moments.finished()) {
    error = "the moments are not finished";
    return std::nullopt;
  }
  if (!moments.finite()) {
    error = "the moments hold NaN or infinity";
    return std::nullopt;
  }
  Search search{moments, options, error, moments.cols()};
  int64_t cols = search.cols;
  if (!options.classes.empty() && (int64_t(options.classes.size()) != cols ||
                                   std::any_of(options.classes.begin(), options.classes.end(),
                                               [&](int64_t c) { return c < 0 || c >= cols; }))) {
    error = "the classes of columns do not match the " + std::to_string(cols) + " inputs";
    return std::nullopt;
  }
  AWQScales best;
  best.scales.assign(cols, 1.0f);
  if (cols == 0)
    return best;
  for (const AWQLayer &layer : layers) {
    int64_t taken = std::min(layer.rows, judgedRows);
    std::vector<float> &w = search.weights.emplace_back();
    for (int64_t r = 0; r < taken; ++r) {
      const float *row = layer.w + r * layer.rows / taken * cols;
      w.insert(w.end(), row, row + cols);
    }
    search.energy += quadraticTrace(w.data(), taken, moments.matrix(), options.threads);
  }

  std::vector<double> sizes = search.meanSizes();
  double least = 0;
  for (int step = 0; step < std::max(1, options.steps); ++step) {
    double alpha = double(step) / double(std::max(1, options.steps));
    std::vector<float> scales =
        step == 0 ? std::vector<float>(cols, 1.0f) : search.scalesAt(sizes, alpha);
    double own = search.errorWith(layers, scales);
    if (own < 0)
      return std::nullopt;
    if (step == 0)
      best.plainError = least = own;
    if (own < least) {
      least = own;
      best.alpha = alpha;
      best.scales = std::move(scales);
    }
  }
  best.error = search.energy > 0 ? least / search.energy : 0;
  best.plainError = search.energy > 0 ? best.plainError / search.energy : 0;
  return best;
}

} // namespace lowbit
