//===- IntegerKernelsTest.cpp - int8 kernels equal the reference bit for bit ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "TestLayer.h"
#include <gtest/gtest.h>

using namespace lowbit;
using namespace lowbit::test;

/// `expected`: for how many rows tiles are chosen, and so which.
static void expectExact(IntegerLayer layer, std::vector<int64_t> rows, bool dynamic = true,
                        int64_t expected = 256) {
  layer.draw();
  EmulatedModule module(layer.text(dynamic), {}, expected);
  ASSERT_EQ(module.error, "");
  for (int64_t count : rows) {
    Tensor x = layer.randomInput(count), y = layer.expected(x);
    Tensor got = module.run(x, /*seed=*/count + 1);
    ASSERT_EQ(module.error, "");
    ASSERT_EQ(got.shape, y.shape);
    int64_t wrong = 0;
    for (size_t i = 0; i < y.bytes.size(); ++i)
      wrong += got.bytes[i] != y.bytes[i];
    EXPECT_EQ(wrong, 0) << "of " << y.bytes.size() << " bytes, rows " << count << ", n " << layer.n
                        << ", k " << layer.k;
  }
}

TEST(IntegerLinear, OddShapes) {
  for (int64_t n : {10, 16, 64, 172})
    for (int64_t k : {27, 64, 144, 172, 576}) {
      IntegerLayer layer;
      layer.n = n, layer.k = k, layer.seed = unsigned(n * 1000 + k);
      expectExact(layer, {1, 7, 130});
      expectExact(layer, {128}, true, /*expected=*/k % 2 ? 20000 : 1000000);
    }
}

TEST(IntegerLinear, OddColumns) {
  IntegerLayer layer;
  layer.n = 13, layer.k = 96;
  expectExact(layer, {5});
}

TEST(IntegerLinear, Types) {
  for (IntType input : {IntType::U8, IntType::I8})
    for (std::optional<IntType> output :
         {std::optional<IntType>(IntType::U8), std::optional<IntType>(IntType::I8),
          std::optional<IntType>()})
      for (bool relu : {false, true}) {
        IntegerLayer layer;
        layer.n = 24, layer.k = 80, layer.input = input, layer.output = output, layer.relu = relu;
        layer.perTensor = relu;
        expectExact(layer, {33});
      }
}

TEST(IntegerLinear, ManyRows) {
  IntegerLayer layer;
  layer.n = 64, layer.k = 64;
  expectExact(layer, {128, 300});
}

static Conv2dShape conv(int64_t channels, int64_t size, int64_t filters, int64_t kernel,
                        int64_t stride, int64_t pad, int64_t groups = 1) {
  Conv2dShape shape;
  shape.batch = 1, shape.channels = channels, shape.height = size, shape.width = size + 1;
  shape.outChannels = filters, shape.groups = groups, shape.kernelH = shape.kernelW = kernel;
  shape.strideH = shape.strideW = stride;
  shape.padTop = shape.padLeft = shape.padBottom = shape.padRight = pad;
  return shape;
}

TEST(IntegerConv, Shapes) {
  for (int64_t channels : {1, 3, 8, 16, 64})
    for (int64_t stride : {1, 2}) {
      IntegerLayer layer;
      layer.conv = conv(channels, 9, 16, 3, stride, 1);
      layer.seed = unsigned(channels * 10 + stride);
      expectExact(layer, {1, 2});
      expectExact(layer, {2}, true, /*expected=*/1000000);
    }
}

TEST(IntegerConv, OneByOne) {
  for (int64_t stride : {1, 2}) {
    IntegerLayer layer;
    layer.conv = conv(16, 8, 32, 1, stride, 0);
    layer.output = IntType::I8, layer.input = IntType::I8;
    expectExact(layer, {2});
  }
}

TEST(IntegerConv, AsymmetricPadsAndDilation) {
  IntegerLayer layer;
  Conv2dShape shape = conv(4, 10, 12, 3, 1, 0);
  shape.kernelH = 5, shape.padTop = 2, shape.padLeft = 0, shape.padBottom = 1, shape.padRight = 3;
  shape.dilationW = 2, shape.strideH = 2;
  layer.conv = shape;
  expectExact(layer, {1, 3});
}

TEST(IntegerConv, FloatResult) {
  IntegerLayer layer;
  layer.conv = conv(16, 6, 10, 3, 1, 1);
  layer.output.reset(), layer.relu = true;
  expectExact(layer, {1}, /*dynamic=*/false);
}

TEST(IntegerConv, Depthwise) {
  for (int64_t stride : {1, 2}) {
    IntegerLayer layer;
    layer.conv = conv(64, 7, 64, 3, stride, 1, 64);
    expectExact(layer, {1, 2});
  }
}

TEST(IntegerConv, DepthwiseShapes) {
  for (int64_t channels : {6, 20, 132}) // Not in words of four: one thread per result.
    for (IntType input : {IntType::U8, IntType::I8}) {
      IntegerLayer layer;
      layer.conv = conv(channels, 6, channels, input == IntType::U8 ? 5 : 2, 2, 1, channels);
      layer.conv->dilationW = channels == 20 ? 2 : 1;
      layer.input = input, layer.seed = unsigned(channels), layer.relu = channels == 20;
      if (channels == 132)
        layer.output.reset();
      expectExact(layer, {2});
    }
}

TEST(IntegerConv, Grouped) {
  IntegerLayer layer;
  layer.conv = conv(12, 6, 20, 3, 1, 1, 4);
  layer.input = IntType::I8, layer.output = IntType::I8, layer.relu = true;
  expectExact(layer, {2});
}
