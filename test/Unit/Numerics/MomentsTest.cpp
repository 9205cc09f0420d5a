//===- MomentsTest.cpp - second moments and large symmetric matrices --------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Moments.h"
#include "lowbit/Numerics/Parallel.h"

#include "gtest/gtest.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <random>

using namespace lowbit;

static std::vector<float> normal(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value(0.3f, 1.0f);
  std::vector<float> x(count);
  for (float &v : x)
    v = value(random);
  return x;
}

static Moments momentsOf(const std::vector<float> &x, int64_t cols) {
  Moments moments(cols);
  moments.add(x.data(), int64_t(x.size()) / cols, cols);
  moments.finish();
  return moments;
}

static void expectSame(const Moments &a, const Moments &b, double tolerance) {
  ASSERT_EQ(a.cols(), b.cols());
  EXPECT_EQ(a.count(), b.count());
  for (int64_t i = 0; i < a.cols(); ++i)
    for (int64_t j = 0; j < a.cols(); ++j) {
      double scale = std::sqrt(a.matrix().at(i, i) * a.matrix().at(j, j));
      EXPECT_LE(std::fabs(a.matrix().at(i, j) - b.matrix().at(i, j)), tolerance * scale);
    }
}

TEST(Moments, AreTheSums) {
  int64_t n = 37, cols = 5;
  std::vector<float> x = normal(n * cols, 1);
  Moments moments(cols);
  moments.add(x.data(), n, cols);
  moments.finish();
  EXPECT_EQ(moments.count(), n);
  for (int64_t i = 0; i < cols; ++i) {
    double mean = 0, size = 0;
    for (int64_t r = 0; r < n; ++r) {
      mean += x[r * cols + i] / double(n);
      size += std::fabs(x[r * cols + i]) / double(n);
    }
    EXPECT_NEAR(moments.mean(i), mean, 1e-12);
    EXPECT_NEAR(moments.absMean(i), size, 1e-12);
    for (int64_t j = 0; j < cols; ++j) {
      double sum = 0;
      for (int64_t r = 0; r < n; ++r)
        sum += double(x[r * cols + i]) * double(x[r * cols + j]);
      EXPECT_NEAR(moments.matrix().at(i, j), sum, 1e-10);
      EXPECT_NEAR(moments.centered().matrix().at(i, j), sum - n * mean * moments.mean(j), 1e-9);
    }
  }
  moments.addNoise(2.0);
  EXPECT_NEAR(moments.second(0), momentsOf(x, cols).second(0) + 2.0, 1e-12);
}

TEST(Moments, SameBitsHoweverCallsCutTheRows) {
  int64_t n = 1000, cols = 200;
  std::vector<float> x = normal(n * cols, 2);
  Moments whole(cols);
  whole.add(x.data(), n, cols, 1);
  whole.finish(1);
  for (int64_t step : {1, 7, 256, 300}) {
    Moments pieces(cols);
    for (int64_t r = 0; r < n; r += step)
      pieces.add(x.data() + r * cols, std::min(step, n - r), cols, 3);
    pieces.finish(3);
    expectSame(pieces, whole, 0);
  }
  // Another order, and merged parts.
  Moments back(cols), first(cols), second(cols);
  for (int64_t r = n - 1; r >= 0; --r)
    back.add(x.data() + r * cols, 1, cols, 1);
  back.finish(1);
  expectSame(back, whole, 1e-12);
  first.add(x.data(), 300, cols);
  first.finish();
  second.add(x.data() + 300 * cols, 700, cols);
  second.finish();
  first.merge(second);
  expectSame(first, whole, 1e-12);
}

TEST(Moments, StridesScalesAndMatrices) {
  int64_t n = 20, cols = 3, stride = 5;
  std::vector<float> x = normal(n * stride, 3), dense;
  for (int64_t r = 0; r < n; ++r)
    dense.insert(dense.end(), x.begin() + r * stride, x.begin() + r * stride + cols);
  Moments strided(cols);
  strided.add(x.data(), n, stride);
  strided.finish();
  expectSame(strided, momentsOf(dense, cols), 0);
  float factors[] = {2.0f, -0.5f, 1.0f};
  Moments scaled = strided.scaled(factors);
  EXPECT_NEAR(scaled.matrix().at(0, 1), -strided.matrix().at(0, 1), 1e-9);
  EXPECT_NEAR(scaled.absMean(1), 0.5 * strided.absMean(1), 1e-9);
  float matrix[] = {4, 1, 1, 9};
  Moments given = Moments::fromMatrix(matrix, 2, 10);
  EXPECT_EQ(given.second(1), 9);
  EXPECT_EQ(given.matrix().at(1, 0), 10);
  EXPECT_EQ(given.absMean(0), 2);
}

TEST(Moments, NotFinite) {
  std::vector<float> x = {1, std::numeric_limits<float>::infinity()};
  EXPECT_FALSE(momentsOf(x, 2).finite());
  x[1] = std::nanf("");
  EXPECT_FALSE(momentsOf(x, 2).finite());
  x[1] = std::numeric_limits<float>::max();
  EXPECT_TRUE(momentsOf(x, 2).finite());
}

TEST(SymmetricTiles, FactorAndItsUses) {
  // Several tiles, the last of them partial.
  int64_t n = 300;
  SymmetricTiles a = momentsOf(normal(2 * n * n, 4), n).matrix(), r = a;
  ASSERT_EQ(a.tileCount(), 3);
  ASSERT_TRUE(factorizeUpper(r, 2));
  auto upper = [&](int64_t i, int64_t j) { return i <= j ? r.at(i, j) : 0.0; };
  for (int64_t i = 0; i < n; i += 7)
    for (int64_t j = 0; j < n; j += 5) {
      double sum = 0;
      for (int64_t k = std::max(i, j); k < n; ++k)
        sum += upper(i, k) * upper(j, k);
      EXPECT_NEAR(sum, a.at(i, j), 1e-9 * a.at(0, 0));
    }
  // Row k of A times A⁻¹ is the k-th unit row; its inverse's k-th entry is on the diagonal.
  std::vector<double> diagonal = inverseDiagonal(r, 2);
  for (int64_t k : {0, 131, 299}) {
    std::vector<double> row(n), unit(n);
    for (int64_t c = 0; c < n; ++c)
      row[c] = a.at(k, c);
    unit[k] = 1;
    solveRight(r, row.data(), 1);
    solveRight(r, unit.data(), 1);
    for (int64_t c = 0; c < n; ++c)
      EXPECT_NEAR(row[c], c == k ? 1.0 : 0.0, 1e-9);
    EXPECT_NEAR(unit[k], diagonal[k], 1e-9 * diagonal[k]);
  }
  SymmetricTiles other = retiled(a, 96);
  EXPECT_EQ(other.at(299, 5), a.at(5, 299));
  std::vector<float> e = normal(2 * n, 5);
  double trace = 0;
  for (int64_t row = 0; row < 2; ++row)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        trace += double(e[row * n + i]) * a.at(i, j) * double(e[row * n + j]);
  EXPECT_NEAR(quadraticTrace(e.data(), 2, a, 2), trace, 1e-9 * trace);
  EXPECT_NEAR(quadraticTrace(e.data(), 2, other, 1), trace, 1e-9 * trace);
  SymmetricTiles bad(2, 2);
  bad.upper(0, 0) = bad.upper(1, 1) = 1;
  bad.upper(0, 1) = 2;
  EXPECT_FALSE(factorizeUpper(bad, 1));
}

TEST(Parallel, EachPieceOnce) {
  for (unsigned threads : {0u, 1u, 7u}) {
    std::vector<std::atomic<int>> seen(100);
    parallelFor(100, threads, [&](int64_t i) { ++seen[i]; });
    for (auto &count : seen)
      EXPECT_EQ(count, 1);
  }
  parallelFor(0, 4, [](int64_t) { FAIL(); });
}
