//===- SymmetricTiles.cpp - large symmetric matrices ------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/SymmetricTiles.h"

#include "EigenSetup.h"
#include "lowbit/Numerics/Parallel.h"

#include <cmath>

namespace lowbit {

using Eigen::MatrixXd;
using Tile = Eigen::Map<MatrixXd>;
using ConstTile = Eigen::Map<const MatrixXd>;

static Tile tileOf(SymmetricTiles &a, int64_t i, int64_t j) {
  return Tile(a.tile(i, j), a.extent(i), a.extent(j));
}

SymmetricTiles retiled(const SymmetricTiles &a, int64_t tile) {
  SymmetricTiles result(a.size(), tile);
  result.forEach([&](int64_t row, int64_t col, double &value) { value = a.at(row, col); });
  return result;
}

/// A = R Rᵀ with R upper: the usual factorization of the matrix with both axes reversed.
static bool factorizeTile(Tile a) {
  Eigen::LLT<MatrixXd> llt(MatrixXd(a.reverse()));
  if (llt.info() != Eigen::Success)
    return false;
  MatrixXd lower = llt.matrixL();
  a = lower.reverse();
  return a.diagonal().allFinite() && a.diagonal().minCoeff() > 0;
}

bool factorizeUpper(SymmetricTiles &a, unsigned threads) {
  fixEigenBlocking();
  // From the last column of tiles to the first: each takes away what the columns after it hold,
  // then divides by its own diagonal.
  for (int64_t j = a.tileCount() - 1; j >= 0; --j) {
    parallelFor(j + 1, threads, [&](int64_t i) {
      Tile target = tileOf(a, i, j);
      for (int64_t t = j + 1; t < a.tileCount(); ++t)
        target.noalias() -= tileOf(a, i, t) * tileOf(a, j, t).transpose();
    });
    if (!factorizeTile(tileOf(a, j, j)))
      return false;
    const Tile diagonal = tileOf(a, j, j);
    parallelFor(j, threads, [&](int64_t i) {
      Tile target = tileOf(a, i, j);
      diagonal.triangularView<Eigen::Upper>().transpose().solveInPlace<Eigen::OnTheRight>(target);
    });
  }
  return true;
}

static ConstTile tileOf(const SymmetricTiles &a, int64_t i, int64_t j) {
  return ConstTile(a.tile(i, j), a.extent(i), a.extent(j));
}

std::vector<double> inverseDiagonal(const SymmetricTiles &r, unsigned threads) {
  fixEigenBlocking();
  // With U = R⁻¹ the inverse is UᵀU; U is made one column of tiles at a time, from below.
  std::vector<double> result(r.size());
  parallelFor(r.tileCount(), threads, [&](int64_t j) {
    int64_t side = r.tileSize(), n = r.extent(j);
    MatrixXd u((j + 1) * side, n);
    for (int64_t i = j; i >= 0; --i) {
      MatrixXd own = i == j ? MatrixXd(MatrixXd::Identity(n, n)) : MatrixXd::Zero(side, n);
      for (int64_t t = i + 1; t <= j; ++t)
        own.noalias() -= tileOf(r, i, t) * u.middleRows(t * side, r.extent(t));
      const ConstTile diagonal = tileOf(r, i, i);
      diagonal.triangularView<Eigen::Upper>().solveInPlace(own);
      u.middleRows(i * side, r.extent(i)) = own;
    }
    for (int64_t c = 0; c < n; ++c)
      result[j * side + c] = u.col(c).head(j * side + n).squaredNorm();
  });
  return result;
}

void solveRight(const SymmetricTiles &r, double *b, int64_t rows) {
  int64_t side = r.tileSize(), tiles = r.tileCount();
  Tile x(b, rows, r.size());
  for (int64_t j = tiles - 1; j >= 0; --j) {
    MatrixXd own = x.middleCols(j * side, r.extent(j));
    for (int64_t t = j + 1; t < tiles; ++t)
      own.noalias() -= x.middleCols(t * side, r.extent(t)) * tileOf(r, j, t).transpose();
    const ConstTile diagonal = tileOf(r, j, j);
    diagonal.triangularView<Eigen::Upper>().transpose().solveInPlace<Eigen::OnTheRight>(own);
    x.middleCols(j * side, r.extent(j)) = own;
  }
  for (int64_t j = 0; j < tiles; ++j) {
    MatrixXd own = x.middleCols(j * side, r.extent(j));
    for (int64_t t = 0; t < j; ++t)
      own.noalias() -= x.middleCols(t * side, side) * tileOf(r, t, j);
    const ConstTile diagonal = tileOf(r, j, j);
    diagonal.triangularView<Eigen::Upper>().solveInPlace<Eigen::OnTheRight>(own);
    x.middleCols(j * side, r.extent(j)) = own;
  }
}

double quadraticTrace(const float *e, int64_t rows, const SymmetricTiles &a, unsigned threads) {
  fixEigenBlocking();
  constexpr int64_t panel = 128;
  int64_t panels = (rows + panel - 1) / panel, cols = a.size(), side = a.tileSize();
  std::vector<double> sums(panels);
  parallelFor(panels, threads, [&](int64_t p) {
    int64_t count = std::min(panel, rows - p * panel);
    using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    MatrixXd part = Eigen::Map<const RowMajor>(e + p * panel * cols, count, cols).cast<double>();
    MatrixXd product;
    for (int64_t j = 0; j < a.tileCount(); ++j) {
      ConstTile diagonal(a.tile(j, j), a.extent(j), a.extent(j));
      auto own = part.middleCols(j * side, a.extent(j));
      product.noalias() = own * diagonal;
      for (int64_t i = 0; i < j; ++i)
        product.noalias() += 2.0 * part.middleCols(i * side, side) *
                             ConstTile(a.tile(i, j), a.extent(i), a.extent(j));
      sums[p] += product.cwiseProduct(own).sum();
    }
  });
  double sum = 0;
  for (double s : sums)
    sum += s;
  return sum;
}

} // namespace lowbit
