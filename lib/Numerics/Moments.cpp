//===- Moments.cpp - second moments of a layer's input ----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Moments.h"

#include "EigenSetup.h"
#include "lowbit/Numerics/Parallel.h"

#include <cmath>
#include <cstring>

namespace lowbit {

static constexpr int64_t blockRows = 256;
static constexpr int64_t tileCols = 128;

Moments::Moments(int64_t cols)
    : sums(cols, std::min(std::max<int64_t>(cols, 1), tileCols)), firsts(cols), absolutes(cols) {}

Moments Moments::fromMatrix(const float *matrix, int64_t cols, int64_t count) {
  Moments result(cols);
  result.rowCount = count;
  result.sums.forEach([&](int64_t row, int64_t col, double &value) {
    value = double(matrix[std::min(row, col) * cols + std::max(row, col)]) * double(count);
  });
  for (int64_t i = 0; i < cols; ++i)
    result.absolutes[i] = std::sqrt(std::max(0.0, result.second(i))) * double(count);
  return result;
}

void Moments::add(const float *rows, int64_t count, int64_t stride, unsigned threads) {
  int64_t n = cols();
  if (n == 0) {
    rowCount += count;
    return;
  }
  for (int64_t done = 0; done < count;) {
    int64_t take = std::min(count - done, blockRows - waiting);
    if (int64_t needed = (waiting + take) * n; int64_t(block.size()) < needed)
      block.resize(needed);
    for (int64_t r = 0; r < take; ++r)
      std::memcpy(block.data() + (waiting + r) * n, rows + (done + r) * stride, n * sizeof(float));
    waiting += take;
    done += take;
    if (waiting == blockRows)
      addBlock(threads);
  }
}

void Moments::finish(unsigned threads) {
  if (waiting != 0)
    addBlock(threads);
  block = {};
}

void Moments::addBlock(unsigned threads) {
  fixEigenBlocking();
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Eigen::MatrixXd x = Eigen::Map<const RowMajor>(block.data(), waiting, cols()).cast<double>();
  for (int64_t c = 0; c < cols(); ++c) {
    firsts[c] += x.col(c).sum();
    absolutes[c] += x.col(c).cwiseAbs().sum();
  }
  int64_t n = sums.tileCount(), side = sums.tileSize();
  // Small products are not worth a thread's start.
  unsigned used = n <= 2 ? 1 : threads;
  parallelFor(n * (n + 1) / 2, used, [&](int64_t pair) {
    int64_t j = 0;
    while ((j + 1) * (j + 2) / 2 <= pair)
      ++j;
    int64_t i = pair - j * (j + 1) / 2;
    Eigen::Map<Eigen::MatrixXd>(sums.tile(i, j), sums.extent(i), sums.extent(j)).noalias() +=
        x.middleCols(i * side, sums.extent(i)).transpose() * x.middleCols(j * side, sums.extent(j));
  });
  rowCount += waiting;
  waiting = 0;
}

void Moments::merge(const Moments &other) {
  rowCount += other.rowCount;
  for (int64_t j = 0; j < sums.tileCount(); ++j)
    for (int64_t i = 0; i <= j; ++i)
      for (int64_t e = 0; e < sums.extent(i) * sums.extent(j); ++e)
        sums.tile(i, j)[e] += other.sums.tile(i, j)[e];
  for (int64_t c = 0; c < cols(); ++c) {
    firsts[c] += other.firsts[c];
    absolutes[c] += other.absolutes[c];
  }
}

Moments Moments::scaled(const float *factors) const {
  Moments result = *this;
  result.sums.forEach([&](int64_t row, int64_t col, double &value) {
    value *= double(factors[row]) * double(factors[col]);
  });
  for (int64_t c = 0; c < cols(); ++c) {
    result.firsts[c] *= double(factors[c]);
    result.absolutes[c] *= std::fabs(double(factors[c]));
  }
  return result;
}

Moments Moments::centered() const {
  Moments result = *this;
  result.sums.forEach(
      [&](int64_t row, int64_t col, double &value) { value -= firsts[row] * mean(col); });
  result.firsts.assign(cols(), 0.0);
  // Rounding may leave a constant column's variance below zero.
  for (int64_t c = 0; c < cols(); ++c)
    result.sums.upper(c, c) = std::max(result.sums.at(c, c), 0.0);
  return result;
}

void Moments::addNoise(double variance) {
  for (int64_t c = 0; c < cols(); ++c)
    sums.upper(c, c) += variance * double(rowCount);
}

bool Moments::finite() const {
  // A row with x_i not finite makes H_ii so; no finite float does.
  for (int64_t i = 0; i < cols(); ++i)
    if (!std::isfinite(sums.at(i, i)))
      return false;
  return true;
}

} // namespace lowbit
