//===- HostModule.h - runs a quantized module on the CPU ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TEST_INTEGRATION_CUDA_HOSTMODULE_H
#define LOWBIT_TEST_INTEGRATION_CUDA_HOSTMODULE_H

#include "EmulatedModule.h"
#include <string>
#include <vector>

namespace lowbit::test {

/// Compiles `module` (quantized form, consumed) for the CPU as bundles are compiled, loads it and
/// runs @main_graph once on one thread. Returns the results; on failure none, and `error` says why.
std::vector<Tensor> runOnHost(ModuleOp module, const std::vector<Tensor> &inputs,
                              std::string &error);

} // namespace lowbit::test

#endif // LOWBIT_TEST_INTEGRATION_CUDA_HOSTMODULE_H
