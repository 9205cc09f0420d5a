//===- FloatTargets.cpp - weights that answer for others --------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/FloatTargets.h"

#include "Blocks.h"
#include "EigenSetup.h"
#include "lowbit/Numerics/Parallel.h"

#include <cmath>

namespace lowbit {

using Eigen::MatrixXd;
using Eigen::MatrixXf;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstTile = Eigen::Map<const MatrixXd>;

static constexpr int64_t blockRows = 256;
static constexpr int64_t tileCols = 128;

CrossMoments::CrossMoments(int64_t cols) : size(cols), sums(cols * cols), differences(cols) {}

void CrossMoments::add(const float *x, const float *xFloat, int64_t count, int64_t stride,
                       unsigned threads) {
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = 0; c < size; ++c) {
      block.push_back(x[r * stride + c]);
      differenceBlock.push_back(xFloat[r * stride + c] - x[r * stride + c]);
    }
    if (++waiting == blockRows)
      addBlock(threads);
  }
}

void CrossMoments::finish(unsigned threads) {
  if (waiting != 0)
    addBlock(threads);
  block = {};
  differenceBlock = {};
}

void CrossMoments::addBlock(unsigned threads) {
  fixEigenBlocking();
  MatrixXd x = Eigen::Map<const RowMajor>(block.data(), waiting, size).cast<double>();
  MatrixXd d = Eigen::Map<const RowMajor>(differenceBlock.data(), waiting, size).cast<double>();
  for (int64_t c = 0; c < size; ++c)
    differences[c] += d.col(c).sum();
  int64_t tiles = (size + tileCols - 1) / tileCols;
  parallelFor(tiles, tiles <= 2 ? 1 : threads, [&](int64_t t) {
    int64_t n = std::min(tileCols, size - t * tileCols);
    MatrixXd product = x.transpose() * d.middleCols(t * tileCols, n);
    Eigen::Map<MatrixXf>(sums.data() + t * tileCols * size, size, n) += product.cast<float>();
  });
  rowCount += waiting;
  waiting = 0;
  block.clear();
  differenceBlock.clear();
}

bool CrossMoments::finite() const {
  return Eigen::Map<const Eigen::ArrayXf>(sums.data(), int64_t(sums.size())).allFinite();
}

CrossMoments CrossMoments::centered(const Moments &moments) const {
  CrossMoments result = *this;
  for (int64_t j = 0; j < size; ++j)
    for (int64_t i = 0; i < size; ++i)
      result.sums[j * size + i] -= float(moments.mean(i) * differences[j]);
  return result;
}

std::optional<std::vector<float>> floatTargets(const float *w, int64_t rows, int64_t cols,
                                               const std::vector<Moments> &moments,
                                               const std::vector<CrossMoments> &cross,
                                               double strength, double ridge, unsigned threads,
                                               std::string &error) {
  fixEigenBlocking();
  if (moments.empty() || moments.size() != cross.size() || rows % int64_t(moments.size()) != 0) {
    error = "moments are given for " + std::to_string(moments.size()) + " and cross moments for " +
            std::to_string(cross.size()) + " groups of " + std::to_string(rows) + " rows";
    return std::nullopt;
  }
  std::vector<float> targets(w, w + rows * cols);
  int64_t each = rows / int64_t(moments.size());
  for (size_t g = 0; g < moments.size(); ++g) {
    const Moments &own = moments[g];
    if (own.cols() != cols || cross[g].cols() != cols || !own.finished() || !cross[g].finished()) {
      error = "the moments or cross moments are not finished, or not of " + std::to_string(cols) +
              " inputs";
      return std::nullopt;
    }
    if (!own.finite() || !cross[g].finite()) {
      error = "the moments or cross moments hold NaN or infinity";
      return std::nullopt;
    }
    SymmetricTiles factor = own.matrix();
    double trace = 0;
    for (int64_t c = 0; c < cols; ++c)
      trace += factor.at(c, c);
    // No input was other than zero: there is nothing to answer for.
    if (!(trace > 0))
      continue;
    for (int64_t c = 0; c < cols; ++c)
      factor.upper(c, c) += ridge * trace / double(cols);
    if (!factorizeUpper(factor, threads)) {
      error = "the moments are not positive definite; a larger ridge would help";
      return std::nullopt;
    }
    Eigen::Map<const MatrixXf> c(cross[g].matrix().data(), cols, cols);
    int64_t panel = panelRows(each);
    parallelFor((each + panel - 1) / panel, threads, [&](int64_t p) {
      int64_t first = int64_t(g) * each + p * panel, count = std::min(panel, each - p * panel);
      Eigen::Map<const RowMajor> part(w + first * cols, count, cols);
      MatrixXd step(count, cols);
      MatrixXd weights = part.cast<double>();
      for (int64_t at = 0; at < cols; at += tileCols) {
        int64_t n = std::min(tileCols, cols - at);
        step.middleCols(at, n).noalias() = weights * c.middleRows(at, n).transpose().cast<double>();
      }
      solveRight(factor, step.data(), count);
      Eigen::Map<RowMajor>(targets.data() + first * cols, count, cols) +=
          (strength * step).cast<float>();
    });
  }
  return targets;
}

} // namespace lowbit
