//===- GatherTable.h - a quantized table whose rows a kernel looks up ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TEST_INTEGRATION_CUDA_GATHERTABLE_H
#define LOWBIT_TEST_INTEGRATION_CUDA_GATHERTABLE_H

#include "EmulatedModule.h"
#include <cstdio>
#include <cstring>

namespace lowbit::test {

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

  /// How many of the looked-up values are not what they should be.
  int64_t wrongValues(const Tensor &got, const std::vector<int64_t> &rows) const {
    if (got.bytes.size() != rows.size() * width * 4)
      return -1;
    int64_t wrong = 0;
    for (size_t i = 0; i < rows.size(); ++i)
      for (int64_t column = 0; column < width; ++column) {
        int64_t parameter = rows[i] * groups() + (group ? column / group : 0);
        float want = float(stored(rows[i], column) - zero(parameter)) * scale(parameter), result;
        std::memcpy(&result, &got.bytes[(i * width + column) * 4], 4);
        wrong += result != want;
      }
    return wrong;
  }
};

template <typename Index>
Tensor indices(std::vector<Index> values) {
  Tensor t;
  t.shape = {int64_t(values.size())};
  t.bytes.assign(reinterpret_cast<char *>(values.data()),
                 reinterpret_cast<char *>(values.data() + values.size()));
  return t;
}

} // namespace lowbit::test

#endif // LOWBIT_TEST_INTEGRATION_CUDA_GATHERTABLE_H
