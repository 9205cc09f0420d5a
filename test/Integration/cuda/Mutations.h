//===- Mutations.h - ways to break a generated kernel ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TEST_INTEGRATION_CUDA_MUTATIONS_H
#define LOWBIT_TEST_INTEGRATION_CUDA_MUTATIONS_H

#include "lowbit/Support/LLVM.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include <functional>
#include <string>
#include <vector>

namespace lowbit::test {

/// One mistake that a generator could make, as a change of what it made.
struct Mutation {
  std::string name;
  /// Those of kernelFamilies() that it fits.
  std::vector<std::string> families;
  /// Makes it; false where the kernel has nothing of the kind.
  std::function<bool(gpu::GPUFuncOp)> apply;
};

std::vector<Mutation> allMutations();

} // namespace lowbit::test

#endif // LOWBIT_TEST_INTEGRATION_CUDA_MUTATIONS_H
