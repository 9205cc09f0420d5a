//===- HalfKernelsTest.cpp - f16 kernels stay within their error bound ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "TestLayer.h"
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>

using namespace lowbit;
using namespace lowbit::test;

namespace {
/// A layer whose weights are f16.
struct HalfLayer {
  int64_t n = 0, k = 0;
  std::optional<Conv2dShape> conv;
  bool bias = true, relu = false;
  unsigned seed = 1;
  std::vector<_Float16> weights;
  std::vector<float> biases;

  void draw() {
    if (conv) {
      n = conv->outChannels;
      k = conv->channels * conv->kernelH * conv->kernelW;
    }
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.03f, 0.1f);
    for (int64_t i = 0; i < n * k; ++i)
      weights.push_back(static_cast<_Float16>(normal(random)));
    for (int64_t i = 0; i < n; ++i)
      biases.push_back(normal(random));
  }
  std::string text(int64_t rows) const;
};
} // namespace

static std::string shape(const std::vector<int64_t> &sizes, const char *element) {
  std::string text = "tensor<";
  for (int64_t size : sizes)
    text += (size < 0 ? "?" : std::to_string(size)) + "x";
  return text + element + ">";
}

std::string HalfLayer::text(int64_t rows) const {
  std::string xt = shape({rows, k}, "f32"), wt = shape({n, k}, "f16"), bt = shape({n}, "f32"),
              yt = shape({rows, n}, "f32");
  std::string attributes = "layer = \"test\"";
  if (relu)
    attributes += ", relu";
  if (conv) {
    xt = shape({rows, conv->channels, conv->height, conv->width}, "f32");
    wt = shape({n, conv->channels, conv->kernelH, conv->kernelW}, "f16");
    yt = shape({rows, n, conv->outHeight(), conv->outWidth()}, "f32");
    auto pair = [](int64_t a, int64_t b) { return std::to_string(a) + ", " + std::to_string(b); };
    attributes += ", strides = array<i64: " + pair(conv->strideH, conv->strideW) +
                  ">, pads = array<i64: " + pair(conv->padTop, conv->padLeft) + ", " +
                  pair(conv->padBottom, conv->padRight) + ">, dilations = array<i64: 1, 1>";
  }
  std::string ir = "func.func @main_graph(%x: " + xt + ") -> " + yt + " {\n";
  ir += "  %w = arith.constant " + denseText(wt, weights.data(), weights.size() * 2) + "\n";
  ir += "  %s = arith.constant dense<1.0> : tensor<f32>\n";
  ir += "  %b = arith.constant " + denseText(bt, biases.data(), n * 4) + "\n";
  ir += std::string("  %y = lowbit.") + (conv ? "conv" : "linear") + " %x, %w scale(%s)" +
        (bias ? " bias(%b)" : "") + " {" + attributes + "} : (" + xt + ", " + wt + ", tensor<f32>" +
        (bias ? ", " + bt : "") + ") -> " + yt + "\n  return %y : " + yt + "\n}\n";
  return ir;
}

/// One result in double, and the sum of its products' magnitudes.
static std::pair<double, double> reference(const HalfLayer &layer, const std::vector<float> &x,
                                           int64_t image, int64_t column, int64_t pixel) {
  double sum = layer.bias ? layer.biases[column] : 0, magnitude = std::abs(sum);
  auto add = [&](double value, int64_t i) {
    double product = value * double(layer.weights[column * layer.k + i]);
    sum += product, magnitude += std::abs(product);
  };
  if (!layer.conv) {
    for (int64_t i = 0; i < layer.k; ++i)
      add(x[image * layer.k + i], i);
    return {sum, magnitude};
  }
  const Conv2dShape &s = *layer.conv;
  int64_t oy = pixel / s.outWidth(), ox = pixel % s.outWidth();
  for (int64_t i = 0; i < layer.k; ++i) {
    int64_t c = i / (s.kernelH * s.kernelW),
            y = oy * s.strideH - s.padTop + i / s.kernelW % s.kernelH,
            z = ox * s.strideW - s.padLeft + i % s.kernelW;
    if (y >= 0 && y < s.height && z >= 0 && z < s.width)
      add(x[((image * s.channels + c) * s.height + y) * s.width + z], i);
  }
  return {sum, magnitude};
}

/// `expected`: for how many rows tiles are chosen; static sizes choose for themselves.
static void expectClose(HalfLayer layer, std::vector<int64_t> rows, int64_t expected = 256,
                        bool dynamic = true) {
  layer.draw();
  EmulatedModule module(layer.text(dynamic ? -1 : rows.front()), {}, expected);
  ASSERT_EQ(module.error, "");
  for (int64_t count : rows) {
    Tensor x;
    x.shape = {count, layer.k};
    int64_t pixels = 1;
    if (layer.conv) {
      x.shape = {count, layer.conv->channels, layer.conv->height, layer.conv->width};
      pixels = layer.conv->outHeight() * layer.conv->outWidth();
    }
    std::mt19937 random(layer.seed + 5);
    std::normal_distribution<float> normal(0.0f, 1.0f);
    std::vector<float> values(x.elements());
    for (float &value : values)
      value = normal(random);
    x.bytes.resize(values.size() * 4);
    std::memcpy(x.bytes.data(), values.data(), x.bytes.size());
    Tensor got = module.run(x, count);
    ASSERT_EQ(module.error, "");
    ASSERT_EQ(got.bytes.size(), size_t(count * layer.n * pixels * 4));
    double worst = 0;
    for (int64_t i = 0; i < count * layer.n * pixels; ++i) {
      auto [want, magnitude] =
          reference(layer, values, i / (layer.n * pixels), i / pixels % layer.n, i % pixels);
      if (layer.relu)
        want = std::max(want, 0.0);
      float result;
      std::memcpy(&result, &got.bytes[4 * i], 4);
      // As for weight-only kernels: 2⁻¹¹ of each activation, 2⁻²⁴ of each partial sum.
      double bound =
          magnitude * (std::ldexp(1.0, -11) + 2.0 * (layer.k + 64) * std::ldexp(1.0, -24));
      worst = std::max(worst, std::isfinite(result) ? std::abs(result - want) / bound : 1e9);
    }
    EXPECT_LE(worst, 1.0) << "of the error bound; rows " << count << ", n " << layer.n << ", k "
                          << layer.k;
    EXPECT_GT(worst, 1e-4) << "the result is suspiciously exact";
  }
}

TEST(HalfLinear, OddShapes) {
  for (int64_t n : {10, 33, 172})
    for (int64_t k : {27, 64, 172, 300}) {
      HalfLayer layer;
      layer.n = n, layer.k = k, layer.seed = unsigned(n + k), layer.relu = n == 33;
      layer.bias = k != 64;
      expectClose(layer, {1, 7, 40});
      expectClose(layer, {70}, /*expected=*/k % 2 ? 20000 : 1000000);
    }
}

TEST(HalfLinear, FewRows) {
  for (int64_t k : {90, 1024, 8192})
    for (int64_t rows : {1, 12}) {
      HalfLayer layer;
      layer.n = 40, layer.k = k, layer.relu = true;
      expectClose(layer, {rows}, 256, /*dynamic=*/false);
    }
}

TEST(HalfConv, Shapes) {
  for (int64_t channels : {1, 3, 6, 16})
    for (int64_t kernel : {1, 3}) {
      HalfLayer layer;
      Conv2dShape shape;
      shape.batch = 1, shape.channels = channels, shape.height = 7, shape.width = 9;
      shape.outChannels = 20, shape.kernelH = shape.kernelW = kernel, shape.strideH = 2;
      shape.padTop = shape.padLeft = kernel / 2, shape.padBottom = shape.padRight = kernel / 2;
      layer.conv = shape;
      layer.relu = kernel == 1;
      expectClose(layer, {1, 3});
      expectClose(layer, {2}, 1000000, /*dynamic=*/false);
    }
}
