//===- ReferenceTest.cpp - the scalar kernels against worked examples -------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Reference.h"

#include "gtest/gtest.h"

#include <cmath>

using namespace lowbit;

TEST(Reference, LinearUnsignedAndSigned) {
  uint8_t u[] = {0, 255, 128};
  int8_t w[] = {1, 2, 3, -128, 127, 0};
  int32_t acc[2];
  referenceLinear({u, IntType::U8, 128}, w, 1, 2, 3, acc);
  EXPECT_EQ(acc[0], -128 + 254);
  EXPECT_EQ(acc[1], 128 * 128 + 127 * 127);
  // The same bytes as signed values.
  referenceLinear({u, IntType::I8, 0}, w, 1, 2, 3, acc);
  EXPECT_EQ(acc[0], 0 - 2 - 3 * 128);
}

TEST(Reference, ConvPointwiseEqualsLinear) {
  // NCHW with one pixel is a linear layer.
  uint8_t x[] = {3, 9, 200, 17};
  int8_t w[] = {1, -2, 3, -4, 5, 6, 7, 8};
  int32_t linear[2], conv[2];
  referenceLinear({x, IntType::U8, 10}, w, 1, 2, 4, linear);
  Conv2dShape shape{1, 4, 1, 1, 2, 1, 1, 1};
  referenceConv2d({x, IntType::U8, 10}, w, shape, conv);
  EXPECT_EQ(conv[0], linear[0]);
  EXPECT_EQ(conv[1], linear[1]);
}

TEST(Reference, ConvPaddingIsZeroPoint) {
  // All inputs at the zero point: padding must contribute nothing either.
  std::vector<uint8_t> x(9, 77);
  std::vector<int8_t> w(9, 5);
  Conv2dShape shape{1, 1, 3, 3, 1, 1, 3, 3};
  shape.padTop = shape.padLeft = shape.padBottom = shape.padRight = 1;
  ASSERT_EQ(shape.outHeight(), 3);
  std::vector<int32_t> acc(9, -1);
  referenceConv2d({x.data(), IntType::U8, 77}, w.data(), shape, acc.data());
  for (int32_t a : acc)
    EXPECT_EQ(a, 0);
  // One step above the zero point counts the taps inside the image.
  referenceConv2d({x.data(), IntType::U8, 76}, w.data(), shape, acc.data());
  EXPECT_EQ(acc[0], 4 * 5);
  EXPECT_EQ(acc[1], 6 * 5);
  EXPECT_EQ(acc[4], 9 * 5);
}

TEST(Reference, ConvStrideDilationGroups) {
  // Depthwise, 2 channels, 1x2 kernel with dilation 2 and stride 2 along a row of 6.
  int8_t x[] = {0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15};
  int8_t w[] = {1, 10, 2, -1};
  Conv2dShape shape{1, 2, 1, 6, 2, 2, 1, 2};
  shape.strideW = 2;
  shape.dilationW = 2;
  ASSERT_EQ(shape.outWidth(), 2);
  int32_t acc[4];
  referenceConv2d({x, IntType::I8, 0}, w, shape, acc);
  EXPECT_EQ(acc[0], 0 + 20);
  EXPECT_EQ(acc[1], 2 + 40);
  EXPECT_EQ(acc[2], 20 - 12);
  EXPECT_EQ(acc[3], 24 - 14);
}

TEST(Reference, RequantizePerChannel) {
  int32_t acc[] = {10, 20, 10, 20};
  int32_t bias[] = {0, 5};
  float mult[] = {0.5f, 2.0f};
  int8_t out[4];
  referenceRequantize(acc, 1, 2, 2, bias, mult, 1, -128, 127, out);
  EXPECT_EQ(out[0], 6);
  EXPECT_EQ(out[1], 11);
  EXPECT_EQ(out[2], 31);
  EXPECT_EQ(out[3], 51);
  referenceRequantize(acc, 1, 4, 1, nullptr, std::vector<float>(4, 20.0f).data(), 0, 0, 255, out);
  EXPECT_EQ(uint8_t(out[0]), 200);
  EXPECT_EQ(uint8_t(out[1]), 255);
}

TEST(Reference, WeightOnlyLinear) {
  float w[] = {0.5f, -1.0f, 0.25f, 3.0f, 2.0f, 1.0f};
  std::string error;
  auto q = rtn(w, 2, 3, {IntType::U8, Scheme::Granularity::Group, 2, false}, error);
  ASSERT_TRUE(q) << error;
  float x[] = {1.0f, 2.0f, -1.0f}, bias[] = {0.125f, 0.0f}, y[2];
  referenceWeightOnlyLinear(x, 1, *q, bias, y);
  EXPECT_NEAR(y[0], 0.5 - 2.0 - 0.25 + 0.125, 0.02);
  EXPECT_NEAR(y[1], 3.0 + 4.0 - 1.0, 0.04);
}
