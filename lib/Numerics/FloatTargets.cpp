//===- FloatTargets.cpp - weights that make up for their inputs -------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/FloatTargets.h"

#include "EigenSetup.h"
#include "lowbit/Numerics/Parallel.h"

#include <algorithm>

namespace lowbit {

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Work is cut into blocks of this many columns, whatever the thread count: sums do not depend on
/// it.
static constexpr int64_t blockCols = 128;

void CrossMoments::add(const float *x, const float *reference, int64_t count, unsigned threads) {
  fixEigenBlocking();
  Eigen::Map<Eigen::MatrixXd> sum(sums.data(), n, n);
  Eigen::MatrixXd rows = Eigen::Map<const RowMajor>(x, count, n).cast<double>();
  Eigen::MatrixXd differences =
      Eigen::Map<const RowMajor>(reference, count, n).cast<double>() - rows;
  parallelFor((n + blockCols - 1) / blockCols, n <= 2 * blockCols ? 1 : threads, [&](int64_t b) {
    int64_t begin = b * blockCols, width = std::min(blockCols, n - begin);
    sum.middleCols(begin, width).noalias() +=
        rows.transpose() * differences.middleCols(begin, width);
  });
  rowCount += count;
}

/// One group's rows of the matrix.
static bool moveGroup(float *w, int64_t rows, const Moments &moments, const CrossMoments &cross,
                      const FloatTargetOptions &options) {
  int64_t n = moments.cols();
  if (moments.count() == 0 || cross.count() != moments.count())
    return false;
  double count = double(moments.count()), mean = 0;
  Eigen::MatrixXd h(n, n);
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < n; ++i)
      h(i, j) = moments.matrix().at(i, j) / count;
  mean = h.diagonal().mean();
  if (!(mean > 0) || !h.allFinite())
    return false;
  h.diagonal().array() += options.ridge * mean;
  Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>> factor(h); // In place.
  if (factor.info() != Eigen::Success)
    return false;
  Eigen::Map<const Eigen::MatrixXd> c(cross.matrix().data(), n, n);
  Eigen::Map<RowMajor> weights(w, rows, n);
  parallelFor((rows + blockCols - 1) / blockCols, options.threads, [&](int64_t b) {
    int64_t begin = b * blockCols, height = std::min(blockCols, rows - begin);
    Eigen::MatrixXd part = weights.middleRows(begin, height).cast<double>();
    Eigen::MatrixXd right = c * part.transpose() / count;
    Eigen::MatrixXd moved = part + options.step * factor.solve(right).transpose();
    if (moved.allFinite())
      weights.middleRows(begin, height) = moved.cast<float>();
  });
  return true;
}

bool moveToFloatTargets(float *w, int64_t rows, int64_t cols, const std::vector<Moments> &moments,
                        const std::vector<CrossMoments> &cross, const FloatTargetOptions &options) {
  fixEigenBlocking();
  if (moments.empty() || moments.size() != cross.size())
    return false;
  int64_t groups = int64_t(moments.size()), perGroup = rows / groups;
  bool moved = true;
  for (int64_t g = 0; g < groups; ++g)
    moved &= moveGroup(w + g * perGroup * cols, perGroup, moments[g], cross[g], options);
  return moved;
}

} // namespace lowbit
