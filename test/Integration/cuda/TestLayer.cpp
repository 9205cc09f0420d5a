//===- TestLayer.cpp - a random quantized layer and what it must compute ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "TestLayer.h"
#include "lowbit/Numerics/Quantize.h"
#include <cmath>
#include <cstring>

using namespace lowbit;
using namespace lowbit::test;

std::string test::denseText(const std::string &type, const void *data, size_t bytes) {
  static const char digits[] = "0123456789ABCDEF";
  std::string text = "dense<\"0x";
  for (size_t i = 0; i < bytes; ++i) {
    auto byte = static_cast<const uint8_t *>(data)[i];
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text + "\"> : " + type;
}

static std::string shapeText(const std::vector<int64_t> &shape) {
  std::string text;
  for (int64_t extent : shape)
    text += (extent < 0 ? "?" : std::to_string(extent)) + "x";
  return text;
}

static std::string elementText(std::optional<IntType> type) {
  return !type ? "f32" : *type == IntType::U8 ? "ui8" : "i8";
}

void IntegerLayer::draw() {
  std::mt19937 random(seed);
  if (conv) {
    n = conv->outChannels;
    k = conv->channels / conv->groups * conv->kernelH * conv->kernelW;
  }
  weights.resize(n * k);
  for (int8_t &weight : weights)
    weight = static_cast<int8_t>(random() % 255 - 127);
  scales.resize(perTensor ? 1 : n);
  for (float &scale : scales)
    scale = (random() % 1000 + 500) * 1e-5f;
  bias.resize(n);
  for (int32_t &value : bias)
    value = static_cast<int32_t>(random() % 20001) - 10000;
  inputZero = input == IntType::U8 ? int(random() % 256) : int(random() % 256) - 128;
  if (output)
    outputZero = *output == IntType::U8 ? int(random() % 256) : int(random() % 256) - 128;
  // Sums are about 74 × 74 × √k wide: some results saturate, most do not.
  outputScale = inputScale * 0.01f * 5500.0f * std::sqrt(float(k)) / 80.0f;
}

std::string IntegerLayer::text(bool dynamic) const {
  std::string in = elementText(input), out = elementText(output);
  std::vector<int64_t> x, w, y;
  if (conv) {
    int64_t batch = dynamic ? -1 : conv->batch;
    x = {batch, conv->channels, conv->height, conv->width};
    w = {n, conv->channels / conv->groups, conv->kernelH, conv->kernelW};
    y = {batch, n, conv->outHeight(), conv->outWidth()};
  } else {
    x = {dynamic ? -1 : 7, k}, w = {n, k}, y = {dynamic ? -1 : 7, n};
  }
  std::string wt = "tensor<" + shapeText(w) + "i8>",
              st = perTensor ? "tensor<f32>" : "tensor<" + std::to_string(n) + "xf32>",
              bt = "tensor<" + std::to_string(n) + "xi32>",
              xt = "tensor<" + shapeText(x) + in + ">", yt = "tensor<" + shapeText(y) + out + ">",
              zt = "tensor<" + in + ">", ozt = "tensor<" + out + ">";
  auto scalar = [](const std::string &name, const std::string &value, const std::string &type) {
    return "  " + name + " = \"onnx.Constant\"() {value = dense<" + value + "> : " + type +
           "} : () -> " + type + "\n";
  };
  auto bits = [](float value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.9e", double(value));
    return std::string(text);
  };
  std::string ir = "func.func @main_graph(%x: " + xt + ") -> " + yt + " {\n";
  ir += "  %w = arith.constant " + denseText(wt, weights.data(), weights.size()) + "\n";
  ir += "  %ws = arith.constant " + denseText(st, scales.data(), scales.size() * 4) + "\n";
  ir += "  %b = arith.constant " + denseText(bt, bias.data(), bias.size() * 4) + "\n";
  ir +=
      scalar("%xs", bits(inputScale), "tensor<f32>") + scalar("%xz", std::to_string(inputZero), zt);
  std::string tail, types = xt + ", " + wt + ", " + st + ", " + bt + ", tensor<f32>, " + zt;
  if (output) {
    ir += scalar("%ys", bits(outputScale), "tensor<f32>") +
          scalar("%yz", std::to_string(outputZero), ozt);
    tail = " output_scale(%ys) output_zero(%yz)";
    types += ", tensor<f32>, " + ozt;
  }
  std::string attributes = "layer = \"test\"";
  if (relu)
    attributes += ", relu";
  if (conv) {
    auto list = [](std::vector<int64_t> values) {
      std::string text = "array<i64";
      for (size_t i = 0; i < values.size(); ++i)
        text += (i ? ", " : ": ") + std::to_string(values[i]);
      return text + ">";
    };
    attributes += ", strides = " + list({conv->strideH, conv->strideW}) + ", pads = " +
                  list({conv->padTop, conv->padLeft, conv->padBottom, conv->padRight}) +
                  ", dilations = " + list({conv->dilationH, conv->dilationW}) +
                  ", groups = " + std::to_string(conv->groups) + " : i64";
  }
  ir += std::string("  %y = lowbit.") + (conv ? "conv" : "linear") +
        " %x, %w scale(%ws) bias(%b) input_scale(%xs) input_zero(%xz)" + tail + " {" + attributes +
        "} : (" + types + ") -> " + yt + "\n  return %y : " + yt + "\n}\n";
  return ir;
}

Tensor IntegerLayer::randomInput(int64_t rows) const {
  Tensor x;
  if (conv)
    x.shape = {rows, conv->channels, conv->height, conv->width};
  else
    x.shape = {rows, k};
  x.bytes.resize(x.elements());
  std::mt19937 random(seed + 17);
  for (char &byte : x.bytes)
    byte = static_cast<char>(random());
  return x;
}

Tensor IntegerLayer::expected(const Tensor &x) const {
  int64_t rows = x.shape[0], inner = 1;
  Tensor y;
  std::vector<int32_t> sums;
  QuantizedInput quantized = {x.bytes.data(), input, inputZero};
  if (conv) {
    Conv2dShape shape = *conv;
    shape.batch = rows;
    y.shape = {rows, n, shape.outHeight(), shape.outWidth()};
    inner = shape.outHeight() * shape.outWidth();
    sums.resize(y.elements());
    referenceConv2d(quantized, weights.data(), shape, sums.data());
  } else {
    y.shape = {rows, n};
    sums.resize(y.elements());
    referenceLinear(quantized, weights.data(), rows, n, k, sums.data());
  }
  std::vector<float> multipliers(n);
  for (int64_t column = 0; column < n; ++column) {
    float scale = scales[perTensor ? 0 : column];
    multipliers[column] = output ? requantMultiplier(inputScale, scale, outputScale)
                                 : float(double(inputScale) * scale);
  }
  if (output) {
    y.bytes.resize(y.elements());
    auto low = static_cast<int32_t>(minValue(*output)),
         high = static_cast<int32_t>(maxValue(*output));
    if (relu)
      low = std::max(low, outputZero);
    referenceRequantize(sums.data(), rows, n, inner, bias.data(), multipliers.data(), outputZero,
                        low, high, reinterpret_cast<int8_t *>(y.bytes.data()));
    return y;
  }
  y.bytes.resize(y.elements() * 4);
  for (int64_t i = 0; i < y.elements(); ++i) {
    int64_t column = i / inner % n;
    auto total =
        static_cast<int32_t>(static_cast<uint32_t>(sums[i]) + static_cast<uint32_t>(bias[column]));
    float real = static_cast<float>(total) * multipliers[column];
    if (relu && real < 0)
      real = 0;
    std::memcpy(&y.bytes[4 * i], &real, 4);
  }
  return y;
}
