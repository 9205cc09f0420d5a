//===- KernelFamilies.h - one small case of each generated family ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TEST_INTEGRATION_CUDA_KERNELFAMILIES_H
#define LOWBIT_TEST_INTEGRATION_CUDA_KERNELFAMILIES_H

#include "EmulatedModule.h"

namespace lowbit::test {

/// A kernel on an input small enough to run a hundred times, whose rows, columns and k all end
/// within a tile. A new family is one more row in kernelFamilies().
struct KernelFamily {
  std::string name;
  std::string generator; // of the kernel that it is about
  std::string text;      // the module, in quantized form
  int64_t rows;          // for which tiles are chosen
  Tensor input;
  /// "" or how the result is wrong.
  std::function<std::string(const Tensor &)> judge;
};

const std::vector<KernelFamily> &kernelFamilies();

} // namespace lowbit::test

#endif // LOWBIT_TEST_INTEGRATION_CUDA_KERNELFAMILIES_H
