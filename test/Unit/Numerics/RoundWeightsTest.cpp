//===- RoundWeightsTest.cpp - algorithms that round weights -----------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/RoundWeights.h"
#include "lowbit/Numerics/AWQ.h"

#include "gtest/gtest.h"

#include <cmath>
#include <random>

using namespace lowbit;
using Granularity = Scheme::Granularity;

static const Scheme u4Group32{IntType::U4, Granularity::Group, 32, false};
static const Scheme i4Channel{IntType::I4, Granularity::Channel, 0, true};

static std::vector<float> normal(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value(0.0f, 1.0f);
  std::vector<float> x(count);
  for (float &v : x)
    v = value(random);
  return x;
}

/// Rows [n, cols] whose neighbouring columns are alike.
static std::vector<float> correlated(int64_t n, int64_t cols, unsigned seed) {
  std::vector<float> x = normal(n * cols, seed);
  for (int64_t r = 0; r < n; ++r)
    for (int64_t c = 1; c < cols; ++c)
      x[r * cols + c] = 0.4f * x[r * cols + c] + 0.9f * x[r * cols + c - 1];
  return x;
}

static Moments momentsOf(const std::vector<float> &x, int64_t cols, unsigned threads = 1) {
  Moments moments(cols);
  moments.add(x.data(), int64_t(x.size()) / cols, cols, threads);
  moments.finish(threads);
  return moments;
}

static std::optional<QuantizedWeights> run(const std::vector<float> &w, int64_t rows,
                                           RoundingAlgorithm algorithm, const Scheme &scheme,
                                           const std::vector<Moments> &moments,
                                           std::string &error) {
  RoundingOptions options;
  options.algorithm = algorithm;
  return roundWeights(w.data(), rows, int64_t(w.size()) / rows, scheme, options, moments, error);
}

TEST(RoundWeights, MakesUpForErrorsOfCorrelatedInputs) {
  int64_t rows = 24, cols = 172;
  std::vector<float> w = normal(rows * cols, 1);
  std::vector<Moments> moments = {momentsOf(correlated(600, cols, 2), cols)};
  std::vector<Moments> held = {momentsOf(correlated(600, cols, 3), cols)};
  std::string error;
  RoundingOptions options;
  options.heldOut = &held;
  double before = 1;
  using A = RoundingAlgorithm;
  for (A algorithm : {A::RTN, A::MSE, A::AWQ, A::GPTQ}) {
    options.algorithm = algorithm;
    options.sweeps = 0;
    auto q = roundWeights(w.data(), rows, cols, u4Group32, options, moments, error);
    ASSERT_TRUE(q) << error;
    EXPECT_FALSE(q->report.fellBack);
    EXPECT_EQ(q->groups, 6);
    EXPECT_LT(*q->report.heldOutError, before);
    before = *q->report.heldOutError;
  }
  EXPECT_LT(before, 0.3 * 0.01);
  // Descent only helps on the moments that it sees, and scales and zero points fitted help more.
  options.refit = false;
  auto plain = roundWeights(w.data(), rows, cols, u4Group32, options, moments, error);
  options.sweeps = 8;
  auto swept = roundWeights(w.data(), rows, cols, u4Group32, options, moments, error);
  options.refit = true;
  auto fitted = roundWeights(w.data(), rows, cols, u4Group32, options, moments, error);
  EXPECT_LT(*swept->report.outputError, *plain->report.outputError);
  EXPECT_LT(*fitted->report.outputError, *swept->report.outputError);
}

TEST(RoundWeights, SameBitsForAnyThreads) {
  int64_t rows = 40, cols = 300;
  std::vector<float> w = normal(rows * cols, 4), x = correlated(500, cols, 5);
  std::string error;
  for (bool actOrder : {false, true})
    for (RoundingAlgorithm algorithm :
         {RoundingAlgorithm::GPTQ, RoundingAlgorithm::AWQ, RoundingAlgorithm::HQQ}) {
      std::optional<QuantizedWeights> first;
      for (unsigned threads : {1u, 2u, 5u}) {
        RoundingOptions options;
        options.algorithm = algorithm;
        options.actOrder = actOrder;
        options.threads = threads;
        std::vector<Moments> moments = {momentsOf(x, cols, threads)};
        auto q = roundWeights(w.data(), rows, cols, u4Group32, options, moments, error);
        ASSERT_TRUE(q) << error;
        if (!first)
          first = q;
        EXPECT_EQ(q->q, first->q);
        EXPECT_EQ(q->scales, first->scales);
        EXPECT_EQ(q->zeros, first->zeros);
        EXPECT_EQ(*q->report.outputError, *first->report.outputError);
      }
    }
}

TEST(RoundWeights, EveryScheme) {
  int64_t rows = 6, cols = 70;
  std::vector<float> w = normal(rows * cols, 6);
  std::vector<Moments> moments = {momentsOf(correlated(300, cols, 7), cols)};
  std::string error;
  for (IntType type :
       {IntType::I8, IntType::U8, IntType::I4, IntType::U4, IntType::I3, IntType::U3})
    for (bool symmetric : {true, false})
      for (int64_t group : {-1, 0, 16, 48, 64, 256})
        for (RoundingAlgorithm algorithm : {RoundingAlgorithm::MSE, RoundingAlgorithm::GPTQ,
                                            RoundingAlgorithm::AWQ, RoundingAlgorithm::HQQ}) {
          Scheme scheme{type, Granularity::Tensor, 0, symmetric};
          if (group == 0)
            scheme.granularity = Granularity::Channel;
          if (group > 0)
            scheme = {type, Granularity::Group, group, symmetric};
          auto q = run(w, rows, algorithm, scheme, moments, error);
          ASSERT_TRUE(q) << error;
          EXPECT_LE(*q->report.outputError, *q->report.rtnOutputError) << str(scheme);
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < cols; ++c) {
              EXPECT_GE(q->value(r, c), minValue(type));
              EXPECT_LE(q->value(r, c), maxValue(type));
            }
          for (size_t i = 0; i < q->zeros.size(); ++i) {
            EXPECT_GT(q->scales[i], 0.0f);
            EXPECT_GE(q->zeros[i], minValue(type));
            EXPECT_LE(q->zeros[i], maxValue(type));
            if (symmetric) {
              EXPECT_EQ(q->zeros[i], isSigned(type) ? 0 : 1 << (bitWidth(type) - 1));
            }
          }
        }
}

TEST(RoundWeights, DegenerateMoments) {
  int64_t rows = 4, cols = 40;
  std::vector<float> w = normal(rows * cols, 8);
  std::string error;
  // One row: rank 1, which the damping mends.
  std::vector<Moments> one = {momentsOf(normal(cols, 9), cols)};
  auto q = run(w, rows, RoundingAlgorithm::GPTQ, u4Group32, one, error);
  ASSERT_TRUE(q) << error;
  EXPECT_EQ(q->report.damping, 0.01);
  EXPECT_LE(*q->report.outputError, *q->report.rtnOutputError);
  // Always zero.
  std::vector<Moments> zero = {momentsOf(std::vector<float>(cols * 3), cols)};
  q = run(w, rows, RoundingAlgorithm::GPTQ, u4Group32, zero, error);
  ASSERT_TRUE(q);
  EXPECT_TRUE(q->report.fellBack);
  ASSERT_EQ(q->report.notes.size(), 1u);
  EXPECT_EQ(q->report.notes[0], "every input of the layer was zero");
  EXPECT_EQ(q->q, rtn(w.data(), rows, cols, u4Group32, error)->q);
  EXPECT_EQ(*q->report.outputError, 0);
  // Not positive definite: -1 beside the diagonal.
  std::vector<float> matrix(cols * cols, -1.0f);
  for (int64_t c = 0; c < cols; ++c)
    matrix[c * cols + c] = 1.0f;
  q = run(w, rows, RoundingAlgorithm::GPTQ, u4Group32, {Moments::fromMatrix(matrix.data(), cols)},
          error);
  ASSERT_TRUE(q);
  EXPECT_EQ(q->report.damping, 100);
  EXPECT_EQ(q->report.notes[0], "the damping was raised from 0.01 to 100");
}

TEST(RoundWeights, DeadColumnsKeepTheirWeights) {
  int64_t rows = 3, cols = 33;
  std::vector<float> w = normal(rows * cols, 10), x = correlated(100, cols, 11);
  for (int64_t r = 0; r < 100; ++r)
    x[r * cols + 7] = 0;
  std::string error;
  auto q = run(w, rows, RoundingAlgorithm::GPTQ, i4Channel, {momentsOf(x, cols)}, error);
  ASSERT_TRUE(q) << error;
  EXPECT_EQ(q->report.deadColumns, 1);
  for (int64_t r = 0; r < rows; ++r)
    if (std::fabs(w[r * cols + 7]) < 6 * q->scales[r]) {
      EXPECT_NEAR(q->real(r, 7), w[r * cols + 7], 0.51 * q->scales[r]);
    }
}

TEST(RoundWeights, SmallestShapes) {
  std::string error;
  for (RoundingAlgorithm algorithm : {RoundingAlgorithm::MSE, RoundingAlgorithm::GPTQ,
                                      RoundingAlgorithm::AWQ, RoundingAlgorithm::HQQ}) {
    std::vector<float> w = {0.5f, -1.0f, 0.0f}, x = {1.0f, 2.0f};
    std::vector<Moments> moments = {momentsOf(x, 1)};
    auto q = run(w, 3, algorithm, i4Channel, moments, error);
    ASSERT_TRUE(q) << error;
    EXPECT_NEAR(q->real(1, 0), -1.0f, 1e-6);
    EXPECT_EQ(q->real(2, 0), 0.0f);
    RoundingOptions options;
    options.algorithm = algorithm;
    EXPECT_TRUE(roundWeights(nullptr, 0, 1, i4Channel, options, moments, error));
    EXPECT_TRUE(roundWeights(nullptr, 2, 0, i4Channel, options, {Moments(0)}, error)) << error;
  }
}

TEST(RoundWeights, GroupedConvolution) {
  int64_t groups = 3, each = 4, cols = 18;
  std::vector<float> w = normal(groups * each * cols, 12);
  std::vector<Moments> moments;
  for (int64_t g = 0; g < groups; ++g)
    moments.push_back(momentsOf(correlated(200, cols, 13 + g), cols));
  std::string error;
  auto all = run(w, groups * each, RoundingAlgorithm::GPTQ, i4Channel, moments, error);
  ASSERT_TRUE(all) << error;
  for (int64_t g = 0; g < groups; ++g) {
    std::vector<float> part(w.begin() + g * each * cols, w.begin() + (g + 1) * each * cols);
    auto own = run(part, each, RoundingAlgorithm::GPTQ, i4Channel, {moments[g]}, error);
    ASSERT_TRUE(own);
    for (int64_t r = 0; r < each; ++r)
      for (int64_t c = 0; c < cols; ++c)
        EXPECT_EQ(own->value(r, c), all->value(g * each + r, c));
  }
  // A group that never saw an input keeps RTN's rows; the others do not.
  moments[1] = momentsOf(std::vector<float>(cols), cols);
  auto some = run(w, groups * each, RoundingAlgorithm::GPTQ, i4Channel, moments, error);
  EXPECT_FALSE(some->report.fellBack);
  auto nearest = rtn(w.data(), groups * each, cols, i4Channel, error);
  for (int64_t c = 0; c < cols; ++c) {
    EXPECT_EQ(some->value(each, c), nearest->value(each, c));
    EXPECT_EQ(some->value(0, c), all->value(0, c));
  }
}

TEST(RoundWeights, FallsBackToNearestWhereHeldOutRowsSaySo) {
  int64_t rows = 8, cols = 64;
  std::vector<float> w = normal(rows * cols, 20);
  // Calibrated where all columns are the same, held out where they are not.
  std::vector<float> same(50 * cols);
  for (int64_t r = 0; r < 50; ++r)
    std::fill_n(same.begin() + r * cols, cols, float(r % 7) - 3.0f);
  std::vector<Moments> moments = {momentsOf(same, cols)},
                       held = {momentsOf(normal(500 * cols, 21), cols)};
  RoundingOptions options;
  options.algorithm = RoundingAlgorithm::GPTQ;
  options.heldOut = &held;
  std::string error;
  auto q = roundWeights(w.data(), rows, cols, u4Group32, options, moments, error);
  ASSERT_TRUE(q) << error;
  EXPECT_TRUE(q->report.fellBack);
  EXPECT_EQ(q->q, rtn(w.data(), rows, cols, u4Group32, error)->q);
  EXPECT_EQ(*q->report.heldOutError, *q->report.rtnHeldOutError);
  ASSERT_EQ(q->report.notes.size(), 1u);
  EXPECT_NE(q->report.notes[0].find("its output error on held-out rows is"), std::string::npos);
  options.fallBack = false;
  auto kept = roundWeights(w.data(), rows, cols, u4Group32, options, moments, error);
  EXPECT_FALSE(kept->report.fellBack);
  EXPECT_GT(*kept->report.heldOutError, *kept->report.rtnHeldOutError);
}

TEST(RoundWeights, FloatTargets) {
  int64_t rows = 16, cols = 64, n = 800;
  std::vector<float> w = normal(rows * cols, 22), x = correlated(n, cols, 23), seen = x;
  // What the layers before did: they shrank the inputs. Weights 1/0.9 as large make up for it.
  for (float &v : seen)
    v *= 0.9f;
  Moments moments = momentsOf(seen, cols);
  CrossMoments cross(cols);
  cross.add(seen.data(), x.data(), n, cols, 2);
  cross.finish(2);
  std::string error;
  auto targets = floatTargets(w.data(), rows, cols, {moments}, {cross}, 1.0, 1e-9, 1, error);
  ASSERT_TRUE(targets) << error;
  for (int64_t i = 0; i < rows * cols; ++i)
    EXPECT_NEAR((*targets)[i], w[i] / 0.9f, 1e-3);
  EXPECT_FALSE(floatTargets(w.data(), rows, cols, {moments}, {}, 1.0, 0.1, 1, error));
  RoundingOptions options;
  options.algorithm = RoundingAlgorithm::GPTQ;
  std::vector<CrossMoments> all = {cross};
  options.cross = &all;
  auto q = roundWeights(w.data(), rows, cols, u4Group32, options, {moments}, error);
  ASSERT_TRUE(q) << error;
  EXPECT_LT(*q->report.outputError, *q->report.rtnOutputError);
}

TEST(RoundWeights, Errors) {
  std::vector<float> w = {1, 2, 3, NAN}, x = {1, 2, 3, 4};
  std::string error;
  std::vector<Moments> two = {momentsOf(x, 2)};
  EXPECT_FALSE(run(w, 2, RoundingAlgorithm::GPTQ, i4Channel, two, error));
  EXPECT_EQ(error, "weight [1, 1] is NaN");
  w[3] = 4;
  EXPECT_FALSE(run(w, 2, RoundingAlgorithm::GPTQ, i4Channel, {}, error));
  EXPECT_EQ(error, "GPTQ needs the second moments of the layer's input");
  EXPECT_FALSE(run(w, 2, RoundingAlgorithm::AWQ, i4Channel, {}, error));
  EXPECT_FALSE(run(w, 1, RoundingAlgorithm::GPTQ, i4Channel, two, error));
  EXPECT_EQ(error, "the moments are of 2 inputs, expected 4");
  EXPECT_FALSE(run(w, 2, RoundingAlgorithm::GPTQ, i4Channel, {two[0], two[0], two[0]}, error));
  EXPECT_EQ(error, "the moments are given for 3 groups, which do not divide 2 rows");
  Moments open(2);
  open.add(x.data(), 2, 2);
  EXPECT_FALSE(run(w, 2, RoundingAlgorithm::GPTQ, i4Channel, {open}, error));
  EXPECT_EQ(error, "the moments are not finished");
  x[1] = INFINITY;
  EXPECT_FALSE(run(w, 2, RoundingAlgorithm::GPTQ, i4Channel, {momentsOf(x, 2)}, error));
  EXPECT_EQ(error, "the moments hold NaN or infinity");
}

TEST(AWQ, ScalesUpWhatLargeInputsMultiply) {
  int64_t rows = 32, cols = 64, n = 400;
  std::vector<float> w = normal(rows * cols, 30), x = normal(n * cols, 31);
  for (int64_t r = 0; r < n; ++r)
    x[r * cols + 5] *= 40;
  Moments moments = momentsOf(x, cols);
  std::string error;
  AWQOptions options;
  std::vector<AWQLayer> layers = {{w.data(), 16, u4Group32}, {w.data() + 16 * cols, 16, u4Group32}};
  auto found = searchAWQScales(layers, moments, options, error);
  ASSERT_TRUE(found) << error;
  EXPECT_GT(found->alpha, 0);
  EXPECT_LT(found->error, 0.5 * found->plainError);
  EXPECT_GT(found->scales[5], 2 * found->scales[6]);
  // Columns of one class share their scale.
  options.classes.resize(cols);
  for (int64_t c = 0; c < cols; ++c)
    options.classes[c] = c / 2;
  auto shared = searchAWQScales(layers, moments, options, error);
  ASSERT_TRUE(shared);
  EXPECT_EQ(shared->scales[4], shared->scales[5]);
  options.classes.pop_back();
  EXPECT_FALSE(searchAWQScales(layers, moments, options, error));
  EXPECT_EQ(error, "the classes of columns do not match the 64 inputs");
}
