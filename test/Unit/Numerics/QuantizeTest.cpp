//===- QuantizeTest.cpp - the arithmetic of one value -----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Quantize.h"

#include "gtest/gtest.h"

#include <cfloat>
#include <cmath>
#include <limits>
#include <random>

using namespace lowbit;

static constexpr IntType allTypes[] = {IntType::I8,  IntType::U8,  IntType::I4,
                                       IntType::U4,  IntType::I3,  IntType::U3,
                                       IntType::I16, IntType::U16, IntType::I32};

TEST(Scheme, NamesRoundTrip) {
  for (IntType type : allTypes)
    EXPECT_EQ(parseIntType(name(type)), type);
  EXPECT_FALSE(parseIntType("I8"));
  EXPECT_FALSE(parseIntType("i5"));
  EXPECT_FALSE(parseIntType(""));
}

TEST(Scheme, Limits) {
  EXPECT_EQ(minValue(IntType::I3), -4);
  EXPECT_EQ(maxValue(IntType::I3), 3);
  EXPECT_EQ(maxValue(IntType::U4), 15);
  EXPECT_EQ(minValue(IntType::I32), std::numeric_limits<int32_t>::min());
  EXPECT_EQ(maxValue(IntType::I32), std::numeric_limits<int32_t>::max());
}

TEST(Quantize, TiesGoToEven) {
  EXPECT_EQ(roundHalfEven(0.5f), 0.0f);
  EXPECT_EQ(roundHalfEven(1.5f), 2.0f);
  EXPECT_EQ(roundHalfEven(-2.5f), -2.0f);
  // The zero point is added after rounding: 2.5 rounds to 2, not to an even sum.
  EXPECT_EQ(quantize(2.5f, 1.0f, 1, IntType::I8), 3);
  EXPECT_EQ(quantize(3.5f, 1.0f, 1, IntType::I8), 5);
}

TEST(Quantize, Saturates) {
  float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(quantize(1e30f, 1.0f, 0, IntType::I8), 127);
  EXPECT_EQ(quantize(-inf, 1.0f, 5, IntType::U4), 0);
  EXPECT_EQ(quantize(inf, 1.0f, 5, IntType::I32), std::numeric_limits<int32_t>::max());
  EXPECT_EQ(quantize(-1.0f, 0.1f, 0, IntType::U8), 0);
  EXPECT_EQ(quantize(NAN, 1.0f, 3, IntType::I8), -128);
}

TEST(Quantize, DividesRatherThanMultiplies) {
  // 0.3f / 0.2f rounds to exactly 1.5, a tie; 0.3f * (1 / 0.2f) need not. Against exact division.
  std::mt19937 random(1);
  std::uniform_real_distribution<float> value(-10, 10), scale(1e-3f, 1);
  for (int i = 0; i < 100000; ++i) {
    float x = value(random), s = scale(random);
    double expected = std::nearbyint(double(float(double(x) / double(s)))) + 7;
    expected = std::min(127.0, std::max(-128.0, expected));
    ASSERT_EQ(quantize(x, s, 7, IntType::I8), int32_t(expected)) << x << " / " << s;
  }
}

TEST(ChooseParams, ZeroIsExact) {
  std::mt19937 random(2);
  std::uniform_real_distribution<float> bound(-5, 5);
  for (IntType type : {IntType::I8, IntType::U8, IntType::I4, IntType::U4, IntType::U3})
    for (bool symmetric : {false, true})
      for (int i = 0; i < 1000; ++i) {
        float a = bound(random), b = bound(random);
        auto p = chooseParams(std::min(a, b), std::max(a, b), type, symmetric);
        ASSERT_TRUE(p);
        ASSERT_GE(p->zero, minValue(type));
        ASSERT_LE(p->zero, maxValue(type));
        ASSERT_EQ(dequantize(quantize(0.0f, p->scale, p->zero, type), p->scale, p->zero), 0.0f);
        // Inside the range the error is at most half a step, plus the zero point's rounding.
        for (float x : {a, b, (a + b) / 2}) {
          float y = dequantize(quantize(x, p->scale, p->zero, type), p->scale, p->zero);
          ASSERT_LE(std::fabs(x - y), p->scale * 1.001f) << x << ' ' << name(type);
        }
      }
}

TEST(ChooseParams, SymmetricRanges) {
  auto p = chooseParams(-1.27f, 0.5f, IntType::I8, true);
  EXPECT_FLOAT_EQ(p->scale, 0.01f);
  EXPECT_EQ(p->zero, 0);
  EXPECT_FLOAT_EQ(chooseParams(0, 7, IntType::I4, true)->scale, 1.0f);
  EXPECT_EQ(chooseParams(0, 7, IntType::U4, true)->zero, 8);
}

TEST(ChooseParams, Degenerate) {
  auto zero = chooseParams(0, 0, IntType::U8, false);
  EXPECT_EQ(zero->scale, 1.0f);
  EXPECT_EQ(zero->zero, 0);
  // A positive-only range is widened to 0.
  EXPECT_FLOAT_EQ(chooseParams(2, 255, IntType::U8, false)->scale, 1.0f);
  EXPECT_EQ(chooseParams(-1e-44f, 1e-44f, IntType::I8, true)->scale, FLT_MIN);
  auto wide = chooseParams(-FLT_MAX, FLT_MAX, IntType::U8, false);
  EXPECT_TRUE(std::isfinite(wide->scale));
  EXPECT_FALSE(chooseParams(0, std::numeric_limits<float>::infinity(), IntType::I8, true));
  EXPECT_FALSE(chooseParams(NAN, 1, IntType::I8, true));
  EXPECT_FALSE(chooseParams(1, -1, IntType::I8, true));
}

TEST(Requantize, EqualsDoubleReference) {
  std::mt19937 random(3);
  std::uniform_int_distribution<int32_t> acc(-(1 << 23), 1 << 23);
  std::uniform_real_distribution<float> mult(1e-7f, 1e-2f);
  // Below 2^24 the conversion to float is exact, and a double product of two floats is exact: one
  // rounding to float is all there is.
  for (int i = 0; i < 100000; ++i) {
    int32_t a = acc(random);
    float m = mult(random);
    double value = std::nearbyint(double(float(double(a) * double(m)))) + 3;
    value = std::min(127.0, std::max(-128.0, value));
    ASSERT_EQ(requantize(a, 0, m, 3, -128, 127), int32_t(value)) << a << " * " << m;
  }
}

TEST(Requantize, WrapsTiesAndClamps) {
  int32_t top = std::numeric_limits<int32_t>::max();
  EXPECT_EQ(requantize(top, 1, 1.0f, 0, -128, 127), -128);
  EXPECT_EQ(requantize(5, 0, 0.5f, 0, -128, 127), 2);
  EXPECT_EQ(requantize(7, 0, 0.5f, 0, -128, 127), 4);
  EXPECT_EQ(requantize(-100, 0, 1.0f, 10, 10, 255), 10);
  EXPECT_EQ(requantMultiplier(0.1f, 0.2f, 0.3f), float(double(0.1f) * double(0.2f) / double(0.3f)));
}
