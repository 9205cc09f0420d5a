//===- WeightsTest.cpp - rounded weights, packing and observers -------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Observer.h"
#include "lowbit/Numerics/Pack.h"
#include "lowbit/Numerics/RTN.h"

#include "gtest/gtest.h"

#include <cmath>
#include <limits>
#include <random>

using namespace lowbit;

static std::vector<float> randomWeights(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> value(0.02f, 0.1f);
  std::vector<float> w(count);
  for (float &x : w)
    x = value(random);
  return w;
}

TEST(RTN, PerChannelSymmetric) {
  std::vector<float> w = {1.27f, -0.635f, 0.0f, 0.0f, 0.0f, 0.0f};
  std::string error;
  auto q = rtn(w.data(), 2, 3, {IntType::I8, Scheme::Granularity::Channel, 0, true}, error);
  ASSERT_TRUE(q) << error;
  EXPECT_EQ(q->scales.size(), 2u);
  EXPECT_FLOAT_EQ(q->scales[0], 0.01f);
  EXPECT_EQ(q->scales[1], 1.0f);
  EXPECT_EQ(q->value(0, 0), 127);
  EXPECT_NEAR(q->value(0, 1), -63.5, 0.51);
  EXPECT_EQ(q->real(1, 2), 0.0f);
}

TEST(RTN, PartialLastGroup) {
  int64_t rows = 3, cols = 70;
  std::vector<float> w = randomWeights(rows * cols, 4);
  std::string error;
  auto q = rtn(w.data(), rows, cols, {IntType::U4, Scheme::Granularity::Group, 32, false}, error);
  ASSERT_TRUE(q) << error;
  EXPECT_EQ(q->groups, 3);
  EXPECT_EQ(q->scales.size(), 9u);
  EXPECT_EQ(q->scaleIndex(1, 69), 5);
  double max = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      float step = q->scales[q->scaleIndex(r, c)];
      double e = std::fabs(double(w[r * cols + c]) - q->real(r, c));
      EXPECT_LE(e, step * 1.001f);
      EXPECT_GE(q->value(r, c), 0);
      EXPECT_LE(q->value(r, c), 15);
      max = std::max(max, e);
    }
  EXPECT_EQ(q->maxError, max);
  EXPECT_GT(q->meanError, 0);
  EXPECT_LT(q->relativeError, 0.2);
  // A group size over K is one partial group per row.
  auto one =
      rtn(w.data(), rows, cols, {IntType::U4, Scheme::Granularity::Group, 128, false}, error);
  EXPECT_EQ(one->groups, 1);
}

TEST(RTN, UnsignedBytesAreRaw) {
  std::vector<float> w = {0.0f, 2.55f};
  std::string error;
  auto q = rtn(w.data(), 1, 2, {IntType::U8, Scheme::Granularity::Tensor, 0, false}, error);
  ASSERT_TRUE(q);
  EXPECT_EQ(q->value(0, 1), 255);
  EXPECT_EQ(q->q[1], -1);
  EXPECT_EQ(q->groups, 1);
}

TEST(RTN, FinerScalesAreBetter) {
  std::vector<float> w = randomWeights(16 * 256, 5);
  w[0] = 8.0f;
  std::string error;
  auto at = [&](Scheme::Granularity granularity) {
    return rtn(w.data(), 16, 256, {IntType::I4, granularity, 32, true}, error)->relativeError;
  };
  EXPECT_LT(at(Scheme::Granularity::Channel), at(Scheme::Granularity::Tensor));
  EXPECT_LT(at(Scheme::Granularity::Group), at(Scheme::Granularity::Channel));
}

TEST(RTN, Errors) {
  std::vector<float> w = {1, 2, 3, NAN};
  std::string error;
  EXPECT_FALSE(rtn(w.data(), 2, 2, {IntType::I8, Scheme::Granularity::Channel, 0, true}, error));
  EXPECT_EQ(error, "weight [1, 1] is NaN");
  EXPECT_FALSE(rtn(w.data(), 1, 3, {IntType::I4, Scheme::Granularity::Group, 0, true}, error));
  EXPECT_EQ(error, "the group size is 0, expected at least 1");
  EXPECT_FALSE(rtn(w.data(), 1, 3, {IntType::I16, Scheme::Granularity::Tensor, 0, true}, error));
  EXPECT_TRUE(rtn(w.data(), 0, 3, {IntType::I8, Scheme::Granularity::Tensor, 0, true}, error));
  EXPECT_TRUE(rtn(w.data(), 3, 0, {IntType::I8, Scheme::Granularity::Channel, 0, true}, error));
}

TEST(Pack, RoundTrip) {
  std::vector<int8_t> values = {-8, 7, -1, 0, 3};
  std::vector<uint8_t> packed(packedNibbleBytes(5));
  ASSERT_EQ(packed.size(), 3u);
  packNibbles(values.data(), 5, packed.data());
  EXPECT_EQ(packed, (std::vector<uint8_t>{0x78, 0x0f, 0x03}));
  std::vector<int8_t> back(5);
  unpackNibbles(packed.data(), 5, true, back.data());
  EXPECT_EQ(back, values);
  unpackNibbles(packed.data(), 5, false, back.data());
  EXPECT_EQ(back, (std::vector<int8_t>{8, 7, 15, 0, 3}));
}

TEST(Observer, MergeEqualsWhole) {
  std::vector<float> x = randomWeights(1001, 6);
  MinMaxObserver whole, a, b;
  whole.observe(x.data(), 1001);
  a.observe(x.data(), 300);
  b.observe(x.data() + 300, 701);
  b.merge(a);
  EXPECT_EQ(b.min(), whole.min());
  EXPECT_EQ(b.max(), whole.max());
  EXPECT_EQ(b.count(), 1001);
  EXPECT_TRUE(b.valid());
}

TEST(Observer, NotFinite) {
  float inf = std::numeric_limits<float>::infinity();
  float x[] = {1.0f, NAN, -inf, -2.0f};
  MinMaxObserver o;
  EXPECT_FALSE(o.valid());
  o.observe(x, 4);
  EXPECT_EQ(o.nanCount(), 1);
  EXPECT_EQ(o.infCount(), 1);
  EXPECT_EQ(o.min(), -2.0f);
  EXPECT_EQ(o.max(), 1.0f);
  EXPECT_FALSE(o.valid());
}
