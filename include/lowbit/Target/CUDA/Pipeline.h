//===- Pipeline.h - a quantized module to GPU kernels ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TARGET_CUDA_PIPELINE_H
#define LOWBIT_TARGET_CUDA_PIPELINE_H

#include "lowbit/Support/LLVM.h"
#include <string>
#include <vector>

namespace lowbit::cuda {

/// One kernel as `lowbit compile --emit ptx|cubin` shows it.
struct KernelCode {
  std::string name;
  /// "cuda.mma_s8", …, or "linalg" for what came through the upstream conversions.
  std::string generator;
  std::string ptx;
  /// Empty, and the figures −1, where only PTX was asked for.
  std::string cubin;
  int64_t registers = -1, spillBytes = -1;
  /// The layers that launch it, in the order of the graph; a layer that launches it twice is there
  /// twice.
  std::vector<std::string> layers;
  /// Threads per block, bytes of dynamic shared memory, and the grid: blocks along x cover
  /// `rowsPerBlock` rows each (for "linalg": points of the iteration space), blocks along y are
  /// fixed.
  int64_t threads = 0, sharedBytes = 0, rowsPerBlock = 0, blocksY = 1;
};

struct BuildOptions {
  std::string chip = "sm_80";
  /// Run ptxas too. Where it is missing the error says "ptxas is not available".
  bool assemble = false;
  /// Write the emulator's shared object here; empty: none.
  std::string emulatorPath;
};

/// Quantized form to kernels on buffers: schedules for CUDA, decomposes the rest into linalg,
/// bufferizes, generates, and outlines the linalg ops as kernels too.
void buildToKernelsPipeline(OpPassManager &manager);
/// The above as lowbit-to-cuda-kernels.
void registerPipelines();

/// Compiles every kernel that a module made by buildToKernelsPipeline launches, equal ones once;
/// launches then name the one that was compiled. On failure a diagnostic says why and `kernels` is
/// empty.
LogicalResult compileKernels(ModuleOp module, const BuildOptions &options,
                             std::vector<KernelCode> &kernels);

/// Both. `module` is consumed: it is left in a form that nothing else understands.
LogicalResult buildKernels(ModuleOp module, const BuildOptions &options,
                           std::vector<KernelCode> &kernels);

} // namespace lowbit::cuda

#endif // LOWBIT_TARGET_CUDA_PIPELINE_H
