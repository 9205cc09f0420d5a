//===- GatherKernelTest.cpp - rows of quantized tables ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "EmulatedModule.h"
#include "TestLayer.h"
#include <cstring>
#include <gtest/gtest.h>

using namespace lowbit;
using namespace lowbit::test;

namespace {
/// A table [40, width] of i4 values −8 … 7 in groups of `group`, or of ui8 values with one scale
/// per row.
struct Table {
  bool narrow;
  int64_t width, group;
  int64_t groups() const { return group ? (width + group - 1) / group : 1; }
  int stored(int64_t row, int64_t column) const {
    return narrow ? int(row * 7 + column * 5) % 16 - 8 : int(row * 31 + column * 5) % 256;
  }
  int zero(int64_t i) const { return narrow ? int(i % 16) - 8 : int(i * 3 % 256); }
  float scale(int64_t i) const { return 0.01f * float(i + 1); }

  std::string text() const {
    std::string w, z, s, type = narrow ? "i4" : "ui8", d = std::to_string(width),
                         g = std::to_string(groups());
    for (int64_t row = 0; row < 40; ++row) {
      w += row ? ", [" : "[";
      for (int64_t column = 0; column < width; ++column)
        w += (column ? ", " : "") + std::to_string(stored(row, column));
      w += "]";
      s += row ? ", " : "", z += row ? ", " : "";
      std::string scales, zeros;
      for (int64_t i = row * groups(); i < (row + 1) * groups(); ++i) {
        char number[32];
        std::snprintf(number, sizeof number, "%.9e", double(scale(i)));
        scales += (scales.empty() ? "" : ", ") + std::string(number);
        zeros += (zeros.empty() ? "" : ", ") + std::to_string(zero(i));
      }
      s += group ? "[" + scales + "]" : scales, z += group ? "[" + zeros + "]" : zeros;
    }
    std::string shape = group ? "40x" + g + "x" : "40x";
    std::string wt = "tensor<40x" + d + "x" + type + ">", st = "tensor<" + shape + "f32>",
                zt = "tensor<" + shape + type + ">",
                it = narrow ? "tensor<?xi64>" : "tensor<?xi32>", yt = "tensor<?x" + d + "xf32>";
    auto constant = [](const std::string &name, const std::string &value, const std::string &t) {
      return "  " + name + " = \"onnx.Constant\"() {value = dense<[" + value + "]> : " + t +
             "} : () -> " + t + "\n";
    };
    return "func.func @main_graph(%i: " + it + ") -> " + yt + " {\n" + constant("%w", w, wt) +
           constant("%s", s, st) + constant("%z", z, zt) +
           "  %y = lowbit.gather %w[%i] scale(%s) zero(%z) {group = " + std::to_string(group) +
           " : i64} : (" + wt + ", " + it + ", " + st + ", " + zt + ") -> " + yt +
           "\n  return %y : " + yt + "\n}\n";
  }
};
} // namespace

template <typename Index>
static Tensor indices(std::vector<Index> values) {
  Tensor t;
  t.shape = {int64_t(values.size())};
  t.bytes.assign(reinterpret_cast<char *>(values.data()),
                 reinterpret_cast<char *>(values.data() + values.size()));
  return t;
}

static void check(const Table &table, const Tensor &input, std::vector<int64_t> rows) {
  EmulatedModule module(table.text());
  ASSERT_EQ(module.error, "");
  Tensor got = module.run(input);
  ASSERT_EQ(module.error, "");
  ASSERT_EQ(got.bytes.size(), rows.size() * table.width * 4);
  for (size_t i = 0; i < rows.size(); ++i)
    for (int64_t column = 0; column < table.width; ++column) {
      int64_t parameter = rows[i] * table.groups() + (table.group ? column / table.group : 0);
      float want = float(table.stored(rows[i], column) - table.zero(parameter)) *
                   table.scale(parameter),
            result;
      std::memcpy(&result, &got.bytes[(i * table.width + column) * 4], 4);
      ASSERT_EQ(result, want) << i << ", " << column;
    }
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
