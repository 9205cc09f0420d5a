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

static KernelFamily integer(std::string name, IntegerLayer layer, int64_t rows, int64_t tiles) {
  layer.draw();
  Tensor input = layer.randomInput(rows), want = layer.expected(input);
  return {std::move(name), layer.text(/*dynamic=*/true), tiles, input,
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

static KernelFamily weightOnly(std::string name, WeightOnlyLayer layer, int64_t rows,
                               int64_t tiles) {
  layer.draw();
  Tensor input = layer.randomInput(rows);
  return {std::move(name), layer.text(), tiles, input,
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

static std::vector<KernelFamily> makeFamilies() {
  std::vector<KernelFamily> families;
  IntegerLayer linear;
  linear.n = 40, linear.k = 328;
  families.push_back(integer("mma_s8 linear", linear, 21, 64));
  families.push_back(integer("mma_s8 conv", convolution(40, 20, 1), 1, 64));
  // Too few channels for asynchronous copies of runs.
  families.push_back(integer("mma_s8 conv bytes", convolution(3, 20, 1), 1, 64));
  families.push_back(integer("direct_s8", convolution(20, 20, 20), 1, 64));
  WeightOnlyLayer narrow;
  narrow.scheme = {IntType::U4, Scheme::Granularity::Group, 32, false};
  narrow.n = 40, narrow.k = 332;
  families.push_back(weightOnly("w4a16", narrow, 21, 64));
  WeightOnlyLayer wide = narrow;
  wide.scheme = {IntType::U8, Scheme::Granularity::Channel, 0, false};
  families.push_back(weightOnly("w8a16", wide, 21, 64));
  Table table = {true, 65, 32};
  std::vector<int64_t> rows = {0, 39, 39, 7, 0};
  families.push_back({"gather", table.text(), 64, indices<int64_t>({0, 39, -1, 7, -40}),
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
