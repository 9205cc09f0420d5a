//===- EmulatedModule.h - runs scheduled kernels in the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TEST_INTEGRATION_CUDA_EMULATEDMODULE_H
#define LOWBIT_TEST_INTEGRATION_CUDA_EMULATEDMODULE_H

#include "lowbit-c/Emulator.h"
#include "lowbit/Support/LLVM.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include <functional>
#include <string>
#include <vector>

namespace lowbit::test {

/// Row-major.
struct Tensor {
  std::vector<int64_t> shape;
  std::vector<char> bytes;
  int64_t elements() const;
};

/// A module in quantized form, through lowbit-schedule-cuda, lowbit-generate-cuda and
/// lowbit-emit-cuda, whose launches run one after the other in the emulator. Beside launches it
/// understands transposes and casts, nothing else.
class EmulatedModule {
public:
  /// `mutate` changes the generated code before it is compiled; tiles are chosen for `rows` where
  /// the module leaves them open. Check `error` before anything else.
  explicit EmulatedModule(const std::string &text,
                          const std::function<void(ModuleOp)> &mutate = {}, int64_t rows = 256);
  ~EmulatedModule();

  /// Runs @main_graph on its one argument; the result of its return. On failure `error` says why.
  Tensor run(const Tensor &input, uint64_t seed = 1);

  /// The scheduled and generated module, for looking at.
  ModuleOp module() { return *root; }

  std::string error;
  /// Of the last launch.
  lowbit_emu_statistics statistics = {};
  /// Nothing was scheduled: there is nothing to run.
  bool hasNoKernel = false;

private:
  std::vector<Tensor> launch(Operation *op, const std::vector<const Tensor *> &inputs,
                             std::vector<std::vector<int64_t>> shapes, uint64_t seed);
  MLIRContext context;
  OwningOpRef<ModuleOp> root;
  lowbit_emulator *emulator = nullptr;
};

} // namespace lowbit::test

#endif // LOWBIT_TEST_INTEGRATION_CUDA_EMULATEDMODULE_H
