//===- WeightOnlyKernelsTest.cpp - W4A16 kernels stay within their error bound ---*- C++ -*-===//
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
struct WeightOnlyLayer {
  Scheme scheme;
  int64_t n = 0, k = 0;
  std::optional<Conv2dShape> conv;
  bool bias = true, relu = false;
  unsigned seed = 1;

  QuantizedWeights weights;
  std::vector<float> biases;

  void draw() {
    if (conv) {
      n = conv->outChannels;
      k = conv->channels * conv->kernelH * conv->kernelW;
    }
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.03f, 0.1f);
    std::vector<float> real(n * k);
    for (float &value : real)
      value = normal(random);
    std::string error;
    weights = rtn(real.data(), n, k, scheme, error).value();
    for (int64_t i = 0; i < n; ++i)
      biases.push_back(normal(random));
  }

  std::string text() const;
  std::vector<float> randomInput(int64_t count) const {
    std::mt19937 random(seed + 5);
    std::normal_distribution<float> normal(0.0f, 1.0f);
    std::vector<float> x(count);
    for (float &value : x)
      value = normal(random);
    return x;
  }
};
} // namespace

std::string WeightOnlyLayer::text() const {
  std::string element = name(scheme.type);
  if (element[0] == 'u')
    element = "u" + ("i" + element.substr(1));
  std::string N = std::to_string(n), K = std::to_string(k);
  std::string st = scheme.granularity == Scheme::Granularity::Tensor ? "tensor<f32>"
                   : scheme.granularity == Scheme::Granularity::Channel
                       ? "tensor<" + N + "xf32>"
                       : "tensor<" + N + "x" + std::to_string(weights.groups) + "xf32>";
  std::string zt = st.substr(0, st.size() - 4) + element + ">",
              wt = "tensor<" + N + "x" + K + "x" + element + ">";
  std::string xt = "tensor<?x" + K + "xf32>", yt = "tensor<?x" + N + "xf32>";
  if (conv) {
    auto spatial = [](int64_t h, int64_t w) {
      return std::to_string(h) + "x" + std::to_string(w) + "x";
    };
    xt = "tensor<?x" + std::to_string(conv->channels) + "x" + spatial(conv->height, conv->width) +
         "f32>";
    yt = "tensor<?x" + N + "x" + spatial(conv->outHeight(), conv->outWidth()) + "f32>";
    wt = "tensor<" + N + "x" + std::to_string(conv->channels) + "x" +
         spatial(conv->kernelH, conv->kernelW) + element + ">";
  }
  // Sub-byte integers are written one by one: their bytes in a hexadecimal constant are packed
  // differently.
  auto list = [](const std::string &type, size_t count, auto &&at,
                 const std::vector<int64_t> &shape) {
    std::string text = "dense<";
    std::function<void(size_t, size_t &)> nest = [&](size_t axis, size_t &index) {
      if (axis == shape.size()) {
        text += std::to_string(at(index++));
        return;
      }
      text += "[";
      for (int64_t i = 0; i < shape[axis]; ++i) {
        text += i ? ", " : "";
        nest(axis + 1, index);
      }
      text += "]";
    };
    size_t index = 0;
    nest(0, index);
    return text + "> : " + type;
  };
  std::vector<int64_t> zshape, wshape = {n, k};
  if (scheme.granularity != Scheme::Granularity::Tensor)
    zshape.push_back(n);
  if (scheme.granularity == Scheme::Granularity::Group)
    zshape.push_back(weights.groups);
  if (conv)
    wshape = {n, conv->channels, conv->kernelH, conv->kernelW};
  auto constant = [](const std::string &value, const std::string &type) {
    return "\"onnx.Constant\"() {value = " + value + "} : () -> " + type + "\n";
  };
  std::string ir = "func.func @main_graph(%x: " + xt + ") -> " + yt + " {\n";
  ir += "  %w = " + constant(list(
                                 wt, weights.q.size(),
                                 [&](size_t i) { return weights.value(i / k, i % k); }, wshape),
                             wt);
  ir += "  %s = arith.constant " + denseText(st, weights.scales.data(), weights.scales.size() * 4) +
        "\n";
  ir += "  %z = " +
        constant(
            list(zt, weights.zeros.size(), [&](size_t i) { return weights.zeros[i]; }, zshape), zt);
  ir += "  %b = arith.constant " + denseText("tensor<" + N + "xf32>", biases.data(), n * 4) + "\n";
  std::string attributes = "layer = \"test\"";
  if (scheme.group)
    attributes += ", group = " + std::to_string(scheme.group) + " : i64";
  if (relu)
    attributes += ", relu";
  if (conv)
    attributes += ", strides = array<i64: " + std::to_string(conv->strideH) + ", " +
                  std::to_string(conv->strideW) +
                  ">, pads = array<i64: " + std::to_string(conv->padTop) + ", " +
                  std::to_string(conv->padLeft) + ", " + std::to_string(conv->padBottom) + ", " +
                  std::to_string(conv->padRight) + ">, dilations = array<i64: 1, 1>";
  ir += std::string("  %y = lowbit.") + (conv ? "conv" : "linear") + " %x, %w scale(%s) zero(%z)" +
        (bias ? " bias(%b)" : "") + " {" + attributes + "} : (" + xt + ", " + wt + ", " + st +
        ", " + zt + (bias ? ", tensor<" + N + "xf32>" : "") + ") -> " + yt +
        "\n  return %y : " + yt + "\n}\n";
  return ir;
}

/// rows × k, what each result is a product with, from NCHW.
static std::vector<float> gather(const std::vector<float> &x, const Conv2dShape &s) {
  std::vector<float> rows;
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t oy = 0; oy < s.outHeight(); ++oy)
      for (int64_t ox = 0; ox < s.outWidth(); ++ox)
        for (int64_t c = 0; c < s.channels; ++c)
          for (int64_t ky = 0; ky < s.kernelH; ++ky)
            for (int64_t kx = 0; kx < s.kernelW; ++kx) {
              int64_t y = oy * s.strideH + ky - s.padTop, xx = ox * s.strideW + kx - s.padLeft;
              bool inside = y >= 0 && y < s.height && xx >= 0 && xx < s.width;
              rows.push_back(inside ? x[((b * s.channels + c) * s.height + y) * s.width + xx]
                                    : 0.0f);
            }
  return rows;
}

static void expectClose(WeightOnlyLayer layer, std::vector<int64_t> counts,
                        int64_t expected = 256) {
  layer.draw();
  EmulatedModule module(layer.text(), {}, expected);
  ASSERT_EQ(module.error, "");
  int64_t n = layer.n, k = layer.k;
  for (int64_t count : counts) {
    Tensor x;
    x.shape = {count, k};
    if (layer.conv)
      x.shape = {count, layer.conv->channels, layer.conv->height, layer.conv->width};
    std::vector<float> values = layer.randomInput(x.elements());
    x.bytes.assign(reinterpret_cast<char *>(values.data()),
                   reinterpret_cast<char *>(values.data() + values.size()));
    Tensor got = module.run(x, count);
    ASSERT_EQ(module.error, "");
    std::vector<float> rows = values;
    if (layer.conv) {
      layer.conv->batch = count;
      rows = gather(values, *layer.conv);
    }
    int64_t m = rows.size() / k, inner = layer.conv ? m / count : 1;
    ASSERT_EQ(got.bytes.size(), size_t(m * n * 4));
    std::vector<float> want(m * n);
    referenceWeightOnlyLinear(rows.data(), m, layer.weights,
                              layer.bias ? layer.biases.data() : nullptr, want.data());
    double worst = 0;
    for (int64_t row = 0; row < m; ++row)
      for (int64_t column = 0; column < n; ++column) {
        // Rounding an activation to f16 costs at most 2⁻¹¹ of it; each of the k + groups additions
        // and products in f32 at most 2⁻²⁴ of what was added up so far.
        double magnitude = std::abs(layer.biases[column]);
        for (int64_t i = 0; i < k; ++i)
          magnitude += std::abs(double(rows[row * k + i]) * layer.weights.real(column, i));
        double bound = magnitude * (std::ldexp(1.0, -11) + 2.0 * (k + 64) * std::ldexp(1.0, -24));
        float result, expected = want[row * n + column];
        if (layer.relu)
          expected = std::max(expected, 0.0f);
        // Convolutions give [batch, n, pixels].
        int64_t at = (row / inner * n + column) * inner + row % inner;
        std::memcpy(&result, &got.bytes[4 * at], 4);
        worst = std::max(worst,
                         std::isfinite(result) ? std::abs(double(result) - expected) / bound : 1e9);
      }
    EXPECT_LE(worst, 1.0) << "of the error bound; rows " << m << ", n " << n << ", k " << k << ", "
                          << str(layer.scheme);
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
