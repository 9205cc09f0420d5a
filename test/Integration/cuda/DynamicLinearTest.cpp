//===- DynamicLinearTest.cpp - ranges of activations that the run gives ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the CPU's kernels compute, operation by operation in f32: equal bit for bit.
//
//===----------------------------------------------------------------------===//
#include "TestLayer.h"
#include "lowbit/Numerics/Quantize.h"
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>

using namespace lowbit;
using namespace lowbit::test;

namespace {
struct Row {
  float scale = 1;
  int zero = 0;
  std::vector<int> values;
};

struct DynamicLayer {
  int64_t n = 0, k = 0;
  bool isSigned = false, symmetric = false, bias = true, relu = false, weightZero = false;
  std::vector<int8_t> weights;
  std::vector<float> scales, biases;

  void draw() {
    std::mt19937 random(unsigned(n * 31 + k));
    for (int64_t i = 0; i < n * k; ++i)
      weights.push_back(static_cast<int8_t>(random() % 200 - 100));
    for (int64_t i = 0; i < n; ++i) {
      scales.push_back((random() % 1000 + 500) * 1e-5f);
      biases.push_back((random() % 1000) * 1e-2f - 5);
    }
  }
  std::string text(bool quantizedOnly) const;
  Row quantize(const float *x) const;
  float result(const Row &row, int64_t column) const;
};
} // namespace

static constexpr int kWeightZero = 5;

std::string DynamicLayer::text(bool quantizedOnly) const {
  std::string K = std::to_string(k), N = std::to_string(n), e = isSigned ? "i8" : "ui8";
  std::string xt = "tensor<?x" + K + "xf32>", qt = "tensor<?x" + K + "x" + e + ">",
              st = "tensor<?x1xf32>", zt = "tensor<?x1x" + e + ">", yt = "tensor<?x" + N + "xf32>",
              wt = "tensor<" + N + "x" + K + "xi8>", nt = "tensor<" + N + "xf32>";
  std::string ir = "func.func @main_graph(%x: " + xt + ") -> " + (quantizedOnly ? qt : yt) + " {\n";
  ir += "  %q, %s, %z = lowbit.dynamic_quantize %x {per_token" +
        std::string(symmetric ? ", symmetric" : "") + "} : " + xt + " -> " + qt + ", " + st + ", " +
        zt + "\n";
  if (quantizedOnly)
    return ir + "  return %q : " + qt + "\n}\n";
  ir += "  %w = arith.constant " + denseText(wt, weights.data(), weights.size()) + "\n";
  ir += "  %ws = arith.constant " + denseText(nt, scales.data(), n * 4) + "\n";
  ir +=
      "  %wz = arith.constant dense<" + std::to_string(kWeightZero) + "> : tensor<" + N + "xi8>\n";
  ir += "  %b = arith.constant " + denseText(nt, biases.data(), n * 4) + "\n";
  ir += std::string("  %y = lowbit.linear %q, %w scale(%ws)") + (weightZero ? " zero(%wz)" : "") +
        (bias ? " bias(%b)" : "") + " input_scale(%s) input_zero(%z) {layer = \"test\"" +
        (relu ? ", relu" : "") + "} : (" + qt + ", " + wt + ", " + nt +
        (weightZero ? ", tensor<" + N + "xi8>" : "") + (bias ? ", " + nt : "") + ", " + st + ", " +
        zt + ") -> " + yt + "\n  return %y : " + yt + "\n}\n";
  return ir;
}

Row DynamicLayer::quantize(const float *x) const {
  float low = 0, high = 0, least = isSigned ? -128 : 0;
  for (int64_t i = 0; i < k; ++i)
    low = x[i] < low ? x[i] : low, high = x[i] > high ? x[i] : high;
  Row row;
  row.scale = symmetric ? std::max(-low, high) / 127 : (high - low) / 255;
  if (row.scale == 0)
    row.scale = 1;
  float zero = isSigned ? 0 : 128;
  if (!symmetric)
    zero = roundHalfEven(std::min(std::max(least - low / row.scale, least), least + 255));
  row.zero = int(zero);
  for (int64_t i = 0; i < k; ++i) {
    float q = roundHalfEven(x[i] / row.scale) + zero;
    q = q > least ? q : least; // NaN too
    row.values.push_back(int(q < least + 255 ? q : least + 255));
  }
  return row;
}

float DynamicLayer::result(const Row &row, int64_t column) const {
  int32_t sum = 0;
  for (int64_t i = 0; i < k; ++i)
    sum += (row.values[i] - row.zero) * (weights[column * k + i] - (weightZero ? kWeightZero : 0));
  volatile float real = float(sum) * scales[column]; // one rounding each
  real = real * row.scale;
  if (bias)
    real = real + biases[column];
  return relu && real < 0 ? 0.0f : float(real);
}

static void expectExact(DynamicLayer layer, std::vector<int64_t> rows) {
  layer.draw();
  EmulatedModule quantize(layer.text(true)), whole(layer.text(false));
  ASSERT_EQ(quantize.error, "");
  ASSERT_EQ(whole.error, "");
  for (int64_t count : rows) {
    std::mt19937 random{unsigned(count)};
    std::normal_distribution<float> normal(0.3f, 1.0f);
    std::vector<float> x(count * layer.k);
    for (float &value : x)
      value = normal(random);
    x[x.size() / 2] = NAN; // quantizes to the least value, and is ignored in ranges
    if (count > 2) {       // rows of zeros, of one sign, and of huge values
      std::fill_n(&x[layer.k], layer.k, 0.0f);
      for (int64_t i = 0; i < layer.k; ++i)
        x[2 * layer.k + i] = 1e30f + 1e29f * float(i);
    }
    Tensor input;
    input.shape = {count, layer.k};
    input.bytes.resize(x.size() * 4);
    std::memcpy(input.bytes.data(), x.data(), input.bytes.size());
    Tensor q = quantize.run(input, count), y = whole.run(input, count + 1);
    ASSERT_EQ(quantize.error + whole.error, "");
    int64_t wrong = 0, wrongSums = 0;
    for (int64_t row = 0; row < count; ++row) {
      Row want = layer.quantize(&x[row * layer.k]);
      for (int64_t i = 0; i < layer.k; ++i)
        wrong += q.bytes[row * layer.k + i] != static_cast<char>(want.values[i]);
      for (int64_t column = 0; column < layer.n; ++column) {
        float expected = layer.result(want, column);
        wrongSums += std::memcmp(&expected, &y.bytes[(row * layer.n + column) * 4], 4) != 0;
      }
    }
    EXPECT_EQ(wrong, 0) << "quantized values of " << count << " rows of " << layer.k;
    EXPECT_EQ(wrongSums, 0) << "results of " << count << " x " << layer.n << ", k " << layer.k;
  }
}

TEST(DynamicLinear, Types) {
  for (bool isSigned : {false, true})
    for (bool symmetric : {false, true}) {
      DynamicLayer layer;
      layer.n = 24, layer.k = isSigned ? 100 : 83;
      layer.isSigned = isSigned, layer.symmetric = symmetric, layer.bias = symmetric;
      layer.relu = isSigned;
      expectExact(layer, {1, 5, 33});
    }
}

TEST(DynamicLinear, LongRows) {
  for (int64_t k : {600, 2052}) {
    DynamicLayer layer;
    layer.n = 33, layer.k = k, layer.weightZero = k == 600;
    expectExact(layer, {3});
  }
}
