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
  /// One letter per parameter: `p` an address on the device, `n` a number.
  std::string parameters;
  /// Threads per block, bytes of dynamic shared memory, and the grid: blocks along x cover
  /// `rowsPerBlock` rows each (for "linalg": points of the iteration space), blocks along y are
  /// fixed.
  int64_t threads = 0, sharedBytes = 0, rowsPerBlock = 0, blocksY = 1;
};

struct BuildOptions {
  std::string chip = "sm_80";
  /// Run ptxas too. Where it is missing the error says "ptxas is not available".
  bool assemble = false;
};

/// Scheduled form to kernels on buffers: bufferizes, decides what lies where, generates the
/// scheduled kernels and outlines the linalg ops as kernels too.
void buildToKernelsPipeline(OpPassManager &manager);
/// The above as lowbit-to-cuda-kernels.
void registerPipelines();

/// The ONNX node that an op came from, by its location or its launch; "" where it has none.
std::string layerOf(Operation *op);

/// What a module made by buildToKernelsPipeline launches, without code: one entry for each
/// gpu.module, in their order.
std::vector<KernelCode> describeKernels(ModuleOp module);

/// Compiles every kernel of such a module for one chip, each alone, so that a person can look at
/// it. On failure a diagnostic says why and `kernels` is empty.
LogicalResult compileKernels(ModuleOp module, const BuildOptions &options,
                             std::vector<KernelCode> &kernels);

/// The code of all kernels of such a module, as a bundle holds it.
struct KernelLibrary {
  std::vector<KernelCode> kernels; ///< Without `ptx` and `cubin`; figures of the first chip.
  std::string fatbin;              ///< A cubin per chip, and the PTX.
  std::string emulator;            ///< The shared object for lib/Emulator.
};

/// Compiles all kernels together for `chips` (the first is what the PTX is for: the oldest) and for
/// the emulator. Needs ptxas and fatbinary.
FailureOr<KernelLibrary> buildLibrary(ModuleOp module, ArrayRef<std::string> chips);

} // namespace lowbit::cuda

#endif // LOWBIT_TARGET_CUDA_PIPELINE_H
