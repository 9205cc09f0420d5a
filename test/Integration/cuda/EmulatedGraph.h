//===- EmulatedGraph.h - runs a whole model in the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TEST_INTEGRATION_CUDA_EMULATEDGRAPH_H
#define LOWBIT_TEST_INTEGRATION_CUDA_EMULATEDGRAPH_H

#include "EmulatedModule.h"

namespace lowbit::test {

/// Compiles `module` (quantized form, consumed) to kernels and runs @main_graph once: its host code
/// is interpreted, its kernels, those of linalg included, run in the emulator. Returns the results;
/// on failure none, and `error` says why.
std::vector<Tensor> runInEmulator(ModuleOp module, const std::vector<Tensor> &inputs,
                                  std::string &error);

} // namespace lowbit::test

#endif // LOWBIT_TEST_INTEGRATION_CUDA_EMULATEDGRAPH_H
