//===- WeightOnlyLayer.cpp - a layer of float activations and integer weights ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "WeightOnlyLayer.h"
#include <cmath>
#include <cstring>

using namespace lowbit;
using namespace lowbit::test;

void WeightOnlyLayer::draw() {
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
  biases.clear();
  for (int64_t i = 0; i < n; ++i)
    biases.push_back(normal(random));
}

Tensor WeightOnlyLayer::randomInput(int64_t count) const {
  Tensor x;
  x.shape = {count, k};
  if (conv)
    x.shape = {count, conv->channels, conv->height, conv->width};
  std::mt19937 random(seed + 5);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<float> values(x.elements());
  for (float &value : values)
    value = normal(random);
  x.bytes.assign(reinterpret_cast<char *>(values.data()),
                 reinterpret_cast<char *>(values.data() + values.size()));
  return x;
}

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

double WeightOnlyLayer::worstError(const Tensor &x, const Tensor &got) const {
  std::vector<float> rows(x.elements());
  std::memcpy(rows.data(), x.bytes.data(), x.bytes.size());
  if (conv) {
    Conv2dShape shape = *conv;
    shape.batch = x.shape[0];
    rows = gather(rows, shape);
  }
  int64_t m = rows.size() / k, inner = conv ? m / x.shape[0] : 1;
  if (got.bytes.size() != size_t(m * n * 4))
    return 1e9;
  std::vector<float> want(m * n);
  referenceWeightOnlyLinear(rows.data(), m, weights, bias ? biases.data() : nullptr, want.data());
  double worst = 0;
  for (int64_t row = 0; row < m; ++row)
    for (int64_t column = 0; column < n; ++column) {
      // Rounding an activation to f16 costs at most 2⁻¹¹ of it; each of the k + groups additions
      // and products in f32 at most 2⁻²⁴ of what was added up so far.
      double magnitude = std::abs(biases[column]);
      for (int64_t i = 0; i < k; ++i)
        magnitude += std::abs(double(rows[row * k + i]) * weights.real(column, i));
      double bound = magnitude * (std::ldexp(1.0, -11) + 2.0 * (k + 64) * std::ldexp(1.0, -24));
      float result, expected = want[row * n + column];
      if (relu)
        expected = std::max(expected, 0.0f);
      // Convolutions give [batch, n, pixels].
      int64_t at = (row / inner * n + column) * inner + row % inner;
      std::memcpy(&result, &got.bytes[4 * at], 4);
      worst = std::max(worst,
                       std::isfinite(result) ? std::abs(double(result) - expected) / bound : 1e9);
    }
  return worst;
}
