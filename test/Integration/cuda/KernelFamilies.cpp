//===- KernelFamilies.cpp - one small case of each generated family ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "KernelFamilies.h"
#include "GatherTable.h"
#include "WeightOnlyLayer.h"

using namespace lowbit;
using namespace lowbit::test;

static KernelFamily integer(std::string name, std::string generator, IntegerLayer layer,
                            int64_t rows, int64_t tiles) {
  layer.draw();
  Tensor input = layer.randomInput(rows), want = layer.expected(input);
  return {std::move(name),
          std::move(generator),
          layer.text(/*dynamic=*/true),
          tiles,
          input,
          [want](const Tensor &got) -> std::string {
            if (got.bytes.size() != want.bytes.size())
              return "wrong size";
            int64_t wrong = 0;
            for (size_t i = 0; i < want.bytes.size(); ++i)
              wrong += got.bytes[i] != want.bytes[i];
            return wrong ? std::to_string(wrong) + " of " + std::to_string(want.bytes.size()) +
                               " bytes are wrong"
                         : "";
          }};
}

static KernelFamily weightOnly(std::string name, std::string generator, WeightOnlyLayer layer,
                               int64_t rows, int64_t tiles) {
  layer.draw();
  Tensor input = layer.randomInput(rows);
  return {std::move(name),
          std::move(generator),
          layer.text(),
          tiles,
          input,
          [layer, input](const Tensor &got) -> std::string {
            double worst = layer.worstError(input, got);
            return worst > 1 ? "wrong by " + std::to_string(worst) + " of the error bound" : "";
          }};
}

static IntegerLayer convolution(int64_t channels, int64_t filters, int64_t groups) {
  IntegerLayer layer;
  Conv2dShape shape;
  shape.batch = 1, shape.channels = channels, shape.height = 6, shape.width = 7;
  shape.outChannels = filters, shape.groups = groups, shape.kernelH = shape.kernelW = 3;
  shape.strideH = shape.strideW = 1;
  shape.padTop = shape.padLeft = shape.padBottom = shape.padRight = 1;
  layer.conv = shape;
  return layer;
}

/// What the kernel gives as it is, which its own test compares with a reference.
static KernelFamily itself(std::string name, std::string generator, const std::string &text,
                           const Tensor &input) {
  EmulatedModule module(text, {}, 64);
  std::string error = module.error;
  Tensor want = error.empty() ? module.run(input) : Tensor();
  error += module.error;
  return {
      std::move(name),
      std::move(generator),
      text,
      64,
      input,
      [want, error](const Tensor &got) -> std::string {
        return !error.empty() ? error : got.bytes != want.bytes ? "another result than before" : "";
      }};
}

static Tensor randomReals(std::vector<int64_t> shape) {
  WeightOnlyLayer layer;
  layer.k = shape[1];
  return layer.randomInput(shape[0]);
}

static std::string halfLinear(int64_t n, int64_t k) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 0.1f);
  std::vector<_Float16> weights;
  for (int64_t i = 0; i < n * k; ++i)
    weights.push_back(static_cast<_Float16>(normal(random)));
  std::string N = std::to_string(n), K = std::to_string(k), xt = "tensor<?x" + K + "xf32>",
              yt = "tensor<?x" + N + "xf32>", wt = "tensor<" + N + "x" + K + "xf16>";
  return "func.func @main_graph(%x: " + xt + ") -> " + yt + " {\n  %w = arith.constant " +
         denseText(wt, weights.data(), weights.size() * 2) +
         "\n  %s = arith.constant dense<1.0> : tensor<f32>\n  %y = lowbit.linear %x, %w scale(%s) "
         "{layer = \"test\"} : (" +
         xt + ", " + wt + ", tensor<f32>) -> " + yt + "\n  return %y : " + yt + "\n}\n";
}

static std::vector<KernelFamily> makeFamilies() {
  std::vector<KernelFamily> families;
  IntegerLayer linear;
  linear.n = 40, linear.k = 328;
  families.push_back(integer("mma_s8 linear", "cuda.mma_s8", linear, 21, 64));
  families.push_back(integer("mma_s8 conv", "cuda.mma_s8", convolution(40, 20, 1), 1, 64));
  // Too few channels for asynchronous copies of runs.
  families.push_back(integer("mma_s8 conv bytes", "cuda.mma_s8", convolution(3, 20, 1), 1, 64));
  families.push_back(integer("direct_s8", "cuda.direct_s8", convolution(20, 20, 4), 1, 64));
  families.push_back(integer("depthwise_s8", "cuda.depthwise_s8", convolution(20, 20, 20), 1, 64));
  WeightOnlyLayer narrow;
  narrow.scheme = {IntType::U4, Scheme::Granularity::Group, 32, false};
  narrow.n = 40, narrow.k = 332;
  families.push_back(weightOnly("w4a16", "cuda.w4a16", narrow, 21, 64));
  WeightOnlyLayer few = narrow;
  few.k = 1100;
  families.push_back(weightOnly("gemv", "cuda.gemv", few, 9, 9));
  WeightOnlyLayer wide = narrow;
  wide.scheme = {IntType::U8, Scheme::Granularity::Channel, 0, false};
  families.push_back(weightOnly("w8a16", "cuda.w4a16", wide, 21, 64));
  families.push_back(
      itself("mma_f16", "cuda.mma_f16", halfLinear(40, 332), randomReals({21, 332})));
  families.push_back(itself("rowquant", "cuda.rowquant",
                            "func.func @main_graph(%x: tensor<?x600xf32>) -> tensor<?x600xui8> {\n"
                            "  %q, %s, %z = lowbit.dynamic_quantize %x {per_token} : "
                            "tensor<?x600xf32> -> tensor<?x600xui8>, tensor<?x1xf32>, "
                            "tensor<?x1xui8>\n  return %q : tensor<?x600xui8>\n}\n",
                            randomReals({5, 600})));
  Table table = {true, 65, 32};
  std::vector<int64_t> rows = {0, 39, 39, 7, 0};
  families.push_back({"gather", "cuda.gather", table.text(), 64,
                      indices<int64_t>({0, 39, -1, 7, -40}),
                      [table, rows](const Tensor &got) -> std::string {
                        int64_t wrong = table.wrongValues(got, rows);
                        return wrong ? std::to_string(wrong) + " values are wrong" : "";
                      }});
  return families;
}

const std::vector<KernelFamily> &test::kernelFamilies() {
  static const std::vector<KernelFamily> families = makeFamilies();
  return families;
}
