//===- TestBundle.h - a bundle around TestModel.c ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TEST_UNIT_RUNTIME_TESTBUNDLE_H
#define LOWBIT_TEST_UNIT_RUNTIME_TESTBUNDLE_H

#include <cstdint>
#include <string>

namespace lowbit::test {

/// What TestModel.c does in a run; the value of its input `mode`.
enum Mode : int64_t {
  Normal = 0,
  Fails = 1,
  Exhausts = 2,
  ExhaustsInLoop = 3,
  Observes = 4,
  WrongShape = 5,
  NestedLoop = 6,
  SharedResult = 7,
  StridedResult = 8,
  NegativeBuffer = 9,
  ObservesInLoop = 10,
  ConstantResult = 11,
  Denormal = 12
};

/// The weights of TestModel.c.
inline constexpr float weights[4] = {1.0f, 2.0f, -3.0f, 0.5f};

/// A folder of this process, with a final slash; removed when the process ends.
const std::string &temporaryFolder();

/// Writes the bundle to the folder `path`, which it creates. The variants are "avx2" and "future",
/// which no processor has. An empty string, or what went wrong.
std::string writeTestBundle(const std::string &path);

/// The text of a manifest that fits the files in `path`.
std::string testManifest(const std::string &path);

std::string readFile(const std::string &path);
bool writeFile(const std::string &path, const std::string &text);

} // namespace lowbit::test

#endif // LOWBIT_TEST_UNIT_RUNTIME_TESTBUNDLE_H
