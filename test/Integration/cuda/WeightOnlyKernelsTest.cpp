//===- WeightOnlyKernelsTest.cpp - W4A16 kernels stay within their error bound ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "WeightOnlyLayer.h"
#include <gtest/gtest.h>

using namespace lowbit;
using namespace lowbit::test;

static void expectClose(WeightOnlyLayer layer, std::vector<int64_t> counts,
                        int64_t expected = 256) {
  layer.draw();
  EmulatedModule module(layer.text(), {}, expected);
  ASSERT_EQ(module.error, "");
  for (int64_t count : counts) {
    Tensor x = layer.randomInput(count), got = module.run(x, count);
    ASSERT_EQ(module.error, "");
    double worst = layer.worstError(x, got);
    EXPECT_LE(worst, 1.0) << "of the error bound; rows " << count << ", n " << layer.n << ", k "
                          << layer.k << ", " << str(layer.scheme);
    EXPECT_GT(worst, 1e-4) << "the result is suspiciously exact";
  }
}

static Scheme grouped(IntType type, int64_t group, bool symmetric = false) {
  return {type, Scheme::Granularity::Group, group, symmetric};
}

TEST(WeightOnlyLinear, OddShapes) {
  for (int64_t n : {10, 16, 64, 172})
    for (int64_t k : {27, 64, 144, 172, 576}) {
      WeightOnlyLayer layer;
      layer.scheme = grouped(IntType::U4, 32);
      layer.n = n, layer.k = k, layer.seed = unsigned(n + k);
      expectClose(layer, {1, 7, 130});
      expectClose(layer, {128}, /*expected=*/k % 2 ? 20000 : 1000000);
    }
}

TEST(WeightOnlyLinear, Groups) {
  for (int64_t group : {16, 32, 48, 64, 96, 128, 512})
    for (IntType type : {IntType::U4, IntType::I4, IntType::U8, IntType::I8}) {
      WeightOnlyLayer layer;
      layer.scheme = grouped(type, group, type == IntType::I4);
      layer.n = 48, layer.k = 300, layer.relu = group == 64;
      expectClose(layer, {17}, group == 48 ? 100000 : 256);
    }
}

TEST(WeightOnlyLinear, PerChannelAndTensor) {
  for (auto granularity : {Scheme::Granularity::Tensor, Scheme::Granularity::Channel})
    for (IntType type : {IntType::U4, IntType::I4, IntType::U8, IntType::I8}) {
      WeightOnlyLayer layer;
      layer.scheme = {type, granularity, 0, isSigned(type)};
      layer.n = 33, layer.k = 172, layer.bias = granularity == Scheme::Granularity::Tensor;
      expectClose(layer, {4});
    }
}

// Up to 16 rows are a gemv, over one warp or several, one block per column or several (splits).
TEST(WeightOnlyLinear, FewRows) {
  for (IntType type : {IntType::U4, IntType::I8})
    for (int64_t group : {0, 32, 48, 96, 128}) {
      WeightOnlyLayer layer;
      layer.scheme = grouped(type, group);
      if (!group)
        layer.scheme = {type, Scheme::Granularity::Channel, 0, isSigned(type)};
      layer.n = group == 96 ? 33 : 48, layer.k = group == 32 ? 2048 : 1000;
      layer.relu = group == 128, layer.seed = unsigned(group);
      expectClose(layer, {1, 9, 16});
    }
}

TEST(WeightOnlyLinear, FewRowsOfManyProducts) {
  WeightOnlyLayer layer;
  layer.scheme = grouped(IntType::U4, 64);
  layer.n = 20, layer.k = 16500, layer.relu = true;
  expectClose(layer, {3});
}

TEST(WeightOnlyConv, Shapes) {
  for (int64_t channels : {1, 3, 16}) {
    WeightOnlyLayer layer;
    layer.scheme = channels == 3 ? Scheme{IntType::I4, Scheme::Granularity::Channel, 0, true}
                                 : grouped(IntType::U4, 32);
    Conv2dShape shape;
    shape.batch = 1, shape.channels = channels, shape.height = 7, shape.width = 9,
    shape.outChannels = 20;
    shape.kernelH = shape.kernelW = 3, shape.strideH = 2;
    shape.padTop = shape.padLeft = shape.padBottom = shape.padRight = 1;
    layer.conv = shape;
    layer.relu = true;
    expectClose(layer, {1, 3});
    // Int8 per channel, with and without zero points: an implicit GEMM on NHWC.
    for (IntType type : {IntType::I8, IntType::U8}) {
      layer.scheme = {type, Scheme::Granularity::Channel, 0, isSigned(type)};
      layer.biases.clear();
      expectClose(layer, {2}, channels == 16 ? 1000000 : 256);
    }
  }
}
