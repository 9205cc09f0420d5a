//===- GatherKernelTest.cpp - rows of quantized tables ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "GatherTable.h"
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

TEST(Gather, OutOfRange) {
  for (int64_t index : {int64_t(40), int64_t(-41), int64_t(1) << 40}) {
    Table table = {true, 16, 16};
    EmulatedModule module(table.text());
    ASSERT_EQ(module.error, "");
    module.run(indices<int64_t>({1, index}));
    EXPECT_NE(module.error.find("found its input invalid"), std::string::npos) << module.error;
  }
}
