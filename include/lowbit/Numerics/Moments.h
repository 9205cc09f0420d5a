//===- lowbit/Numerics/Moments.h - second moments of a layer's input --------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_MOMENTS_H
#define LOWBIT_NUMERICS_MOMENTS_H

#include "lowbit/Numerics/SymmetricTiles.h"

#include <cstdint>
#include <vector>

namespace lowbit {

/// H = Σ xᵀx over rows x [K] that multiply a weight matrix [rows, K]; with it Σ‖(W - Ŵ)xᵀ‖² is
/// tr((W - Ŵ) H (W - Ŵ)ᵀ). A grouped convolution has one per group.
///
/// Products of floats are exact in double and are summed in double, so any order of the rows gives
/// the same H to about 1e-13. Rows are gathered into blocks of 256 before they are multiplied:
/// the same rows in the same order give the same bits however calls cut them and on any number of
/// threads. Memory: 4 K² bytes (K = 11008: 0.5 GB) and 1 KiB per column of waiting rows.
class Moments {
public:
  explicit Moments(int64_t cols = 0);

  /// From E[x xᵀ] [cols, cols] (its upper triangle is read), counted as `count` rows. Means of |x|
  /// are then √E[x²], means of x 0.
  static Moments fromMatrix(const float *matrix, int64_t cols, int64_t count = 1);

  /// Adds `count` rows of cols() floats, `stride` floats apart.
  void add(const float *rows, int64_t count, int64_t stride, unsigned threads = 0);
  /// Adds the rows that still wait. What follows reads only finished rows.
  void finish(unsigned threads = 0);
  bool finished() const { return waiting == 0; }

  /// Adds those of `other`; both finished, of the same size.
  void merge(const Moments &other);
  /// Of x scaled per column: x'_i = x_i · factors[i]. For AWQ's weights W·s: factors = 1 / s.
  Moments scaled(const float *factors) const;

  /// Less what the means contribute: Σ (x - μ)ᵀ(x - μ). For layers whose bias takes up the means.
  Moments centered() const;
  /// Adds independent noise of this variance to every column, e.g. s²/12 for inputs that are to be
  /// rounded with scale s.
  void addNoise(double variance);

  int64_t cols() const { return sums.size(); }
  int64_t count() const { return rowCount; }
  /// H; not divided by count().
  const SymmetricTiles &matrix() const { return sums; }
  /// E[x_i²], E[x_i], E[|x_i|]; 0 without rows.
  double second(int64_t i) const { return rowCount ? sums.at(i, i) / double(rowCount) : 0; }
  double mean(int64_t i) const { return rowCount ? firsts[i] / double(rowCount) : 0; }
  double absMean(int64_t i) const { return rowCount ? absolutes[i] / double(rowCount) : 0; }
  /// Whether every row was finite.
  bool finite() const;

private:
  void addBlock(unsigned threads);

  int64_t rowCount = 0, waiting = 0;
  SymmetricTiles sums;
  std::vector<double> firsts, absolutes;
  std::vector<float> block;
};

} // namespace lowbit

#endif // LOWBIT_NUMERICS_MOMENTS_H
