//===- GatherKernelTest.cpp - rows of quantized tables ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "GatherTable.h"
#include "TestLayer.h"
#include <gtest/gtest.h>

using namespace lowbit;
using namespace lowbit::test;

static void check(const Table &table, const Tensor &input, std::vector<int64_t> rows) {
  EmulatedModule module(table.text());
  ASSERT_EQ(module.error, "");
  Tensor got = module.run(input);
  ASSERT_EQ(module.error, "");
  EXPECT_EQ(table.wrongValues(got, rows), 0);
}

TEST(Gather, NarrowGrouped) {
  check({true, 65, 32}, indices<int64_t>({0, 39, -1, 7, -40}), {0, 39, 39, 7, 0});
}
TEST(Gather, BytesPerRow) { check({false, 24, 0}, indices<int32_t>({5, -2, 39}), {5, 38, 39}); }

TEST(Gather, HalfPrecision) {
  std::vector<_Float16> table;
  for (int i = 0; i < 40 * 9; ++i)
    table.push_back(_Float16(0.37f * float(i - 100)));
  EmulatedModule module("func.func @main_graph(%i: tensor<?xi64>) -> tensor<?x9xf32> {\n  %w = "
                        "arith.constant " +
                        denseText("tensor<40x9xf16>", table.data(), table.size() * 2) +
                        "\n  %s = arith.constant dense<1.0> : tensor<f32>\n  %y = lowbit.gather "
                        "%w[%i] scale(%s) : (tensor<40x9xf16>, tensor<?xi64>, tensor<f32>) -> "
                        "tensor<?x9xf32>\n  return %y : tensor<?x9xf32>\n}\n");
  ASSERT_EQ(module.error, "");
  Tensor got = module.run(indices<int64_t>({3, -1, 0}));
  ASSERT_EQ(module.error, "");
  for (int i = 0; i < 3; ++i)
    for (int column = 0; column < 9; ++column) {
      float result;
      std::memcpy(&result, &got.bytes[(i * 9 + column) * 4], 4);
      EXPECT_EQ(result, float(table[(i == 0 ? 3 : i == 1 ? 39 : 0) * 9 + column]));
    }
}

TEST(Gather, OutOfRange) {
  for (int64_t index : {int64_t(40), int64_t(-41), int64_t(1) << 40}) {
    Table table = {true, 16, 16};
    EmulatedModule module(table.text());
    ASSERT_EQ(module.error, "");
    module.run(indices<int64_t>({1, index}));
    EXPECT_NE(module.error.find("found its input invalid"), std::string::npos) << module.error;
  }
}
