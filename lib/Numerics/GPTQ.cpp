//===- GPTQ.cpp - rounding with the errors made up for ----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// With H = R Rᵀ, R upper triangular, and U = R⁻¹ (H⁻¹ = UᵀU, the paper's Cholesky
// factor), errors E = W - Ŵ of the columns before a block B change its weights to
//   W_B + (E R_before,B) U_BB,
// which is what the paper's updates add up to; inside the block they are made
// column by column. So H is factorized once and nothing of its size is inverted.
//
//===----------------------------------------------------------------------===//
#include "GPTQ.h"

#include "Blocks.h"
#include "EigenSetup.h"
#include "RangeSearch.h"
#include "lowbit/Numerics/Parallel.h"
#include "lowbit/Numerics/Quantize.h"

#include <cmath>
#include <cstdio>
#include <numeric>

namespace lowbit {

using Eigen::MatrixXd;
using ConstTile = Eigen::Map<const MatrixXd>;

namespace {
struct GPTQ {
  const float *w;
  const Moments &moments;
  const RoundingOptions &options;
  QuantizedWeights &result;
  /// Column of the weights at each step.
  std::vector<int64_t> order;
  /// R, in the order of the steps, and the inverses of its diagonal tiles.
  SymmetricTiles factor;
  std::vector<MatrixXd> inverses;
  /// Of each group, where their parameters come from the updated weights.
  std::vector<RangeCost> costs;

  bool updatesGroups() const { return grouped() && !options.actOrder; }

  bool grouped() const { return result.scheme.granularity == Scheme::Granularity::Group; }
  bool factorize();
  void roundPanel(int64_t begin, int64_t end);
  void chooseGroup(const MatrixXd &block, int64_t at, int64_t step, int64_t begin);
};
} // namespace

bool GPTQ::factorize() {
  int64_t cols = moments.cols();
  const SymmetricTiles &h = moments.matrix();
  double trace = 0;
  for (int64_t c = 0; c < cols; ++c)
    trace += h.at(c, c);
  if (!(trace > 0)) {
    result.report.notes.push_back("every input of the layer was zero");
    return false;
  }
  double mean = trace / double(cols);

  order.resize(cols);
  std::iota(order.begin(), order.end(), 0);
  if (options.actOrder)
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      double first = h.at(a, a), second = h.at(b, b);
      return first != second ? first > second : a < b;
    });

  double damping = options.damping;
  for (int attempt = 0; attempt < 8; ++attempt) {
    factor = SymmetricTiles(cols, blockSize(result.scheme, cols));
    for (int64_t j = 0; j < cols; ++j) {
      for (int64_t i = 0; i < j; ++i)
        factor.upper(i, j) = h.at(order[i], order[j]);
      double own = h.at(order[j], order[j]);
      // A column that never saw an input has no part in any sum; any positive entry will do.
      factor.upper(j, j) = (own > 0 ? own : mean) + damping * mean;
    }
    if (factorizeUpper(factor, options.threads)) {
      if (damping != options.damping) {
        char text[96];
        std::snprintf(text, sizeof(text), "the damping was raised from %g to %g", options.damping,
                      damping);
        result.report.notes.push_back(text);
      }
      result.report.damping = std::max(result.report.damping, damping);
      break;
    }
    if (attempt == 7) {
      result.report.notes.push_back("the moments are not positive definite");
      return false;
    }
    damping = damping > 0 ? damping * 10 : 1e-6;
  }

  inverses.resize(factor.tileCount());
  parallelFor(factor.tileCount(), options.threads, [&](int64_t t) {
    int64_t n = factor.extent(t);
    inverses[t] = ConstTile(factor.tile(t, t), n, n)
                      .triangularView<Eigen::Upper>()
                      .solve(MatrixXd::Identity(n, n));
  });
  return true;
}

/// The parameters of the group that starts at column `step`, from its weights as they are now.
void GPTQ::chooseGroup(const MatrixXd &block, int64_t at, int64_t step, int64_t begin) {
  int64_t count = std::min(result.scheme.group, result.cols - step);
  const Scheme &scheme = result.scheme;
  const RangeCost &cost = costs[step / scheme.group];
  std::vector<float> values(count);
  for (int64_t r = 0; r < block.rows(); ++r) {
    for (int64_t c = 0; c < count; ++c)
      values[c] = float(block(r, at + c));
    QuantParams params =
        options.range == WeightRange::MinMax
            ? minMaxParams(values.data(), count, scheme.type, scheme.symmetric)
            : searchParams(values.data(), count, scheme.type, scheme.symmetric, cost);
    int64_t index = result.scaleIndex(begin + r, step);
    result.scales[index] = params.scale;
    result.zeros[index] = params.zero;
  }
}

void GPTQ::roundPanel(int64_t begin, int64_t end) {
  int64_t rows = end - begin, cols = result.cols, side = factor.tileSize();
  double lo = double(minValue(result.scheme.type)), hi = double(maxValue(result.scheme.type));
  // Columns in the order of the steps.
  MatrixXd errors(rows, cols), block, product;
  Eigen::VectorXd scaled(rows);
  for (int64_t t = 0; t < factor.tileCount(); ++t) {
    int64_t base = t * side, n = factor.extent(t);
    const MatrixXd &u = inverses[t];
    block.resize(rows, n);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < n; ++c)
        block(r, c) = w[(begin + r) * cols + order[base + c]];
    if (t > 0) {
      product.setZero(rows, n);
      for (int64_t s = 0; s < t; ++s)
        product.noalias() +=
            errors.middleCols(s * side, side) * ConstTile(factor.tile(s, t), side, n);
      block.noalias() += product * u.triangularView<Eigen::Upper>();
    }
    for (int64_t c = 0; c < n; ++c) {
      int64_t column = order[base + c];
      if (updatesGroups() && column % result.scheme.group == 0)
        chooseGroup(block, c, column, begin);
      for (int64_t r = 0; r < rows; ++r) {
        int64_t row = begin + r, index = result.scaleIndex(row, column);
        float scale = result.scales[index];
        int32_t zero = result.zeros[index];
        double q = std::nearbyint(block(r, c) / double(scale)) + double(zero);
        int32_t value = int32_t(std::min(std::max(q, lo), hi));
        double real = double(dequantize(value, scale, zero));
        result.q[row * cols + column] = int8_t(value);
        errors(r, base + c) = double(w[row * cols + column]) - real;
        scaled[r] = (block(r, c) - real) / u(c, c);
      }
      block.rightCols(n - c - 1).noalias() -= scaled * u.row(c).tail(n - c - 1);
    }
  }
}

bool gptq(const float *w, int64_t begin, int64_t end, const Moments &moments,
          const RoundingOptions &options, QuantizedWeights &result) {
  fixEigenBlocking();
  int64_t cols = result.cols;
  if (begin == end || cols == 0)
    return true;
  GPTQ run{w, moments, options, result, {}, {}, {}, {}};
  if (!run.factorize())
    return false;
  for (int64_t c = 0; c < cols; ++c)
    result.report.deadColumns += moments.second(c) <= 0;

  std::vector<double> inverse;
  if (options.range == WeightRange::InverseMSE) {
    std::vector<double> inOrder = inverseDiagonal(run.factor, options.threads);
    inverse.resize(cols);
    for (int64_t k = 0; k < cols; ++k)
      inverse[run.order[k]] = inOrder[k];
  }
  const std::vector<double> *known = inverse.empty() ? nullptr : &inverse;
  if (run.updatesGroups())
    for (int64_t c = 0; c < cols; c += result.scheme.group)
      run.costs.push_back(rangeCost(options.range, options.norm, &moments, known, c,
                                    std::min(result.scheme.group, cols - c)));
  else if (result.scheme.granularity != Scheme::Granularity::Tensor)
    searchRows(w, begin, end, options.range, options.norm, &moments, known, options.threads,
               result);

  int64_t panel = panelRows(end - begin);
  int64_t panels = (end - begin + panel - 1) / panel;
  parallelFor(panels, options.threads, [&](int64_t p) {
    run.roundPanel(begin + p * panel, std::min(end, begin + (p + 1) * panel));
  });
  return true;
}

} // namespace lowbit
