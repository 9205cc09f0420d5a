//===- Emit.h - from gpu.module to PTX, cubin and the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TARGET_CUDA_EMIT_H
#define LOWBIT_TARGET_CUDA_EMIT_H

#include "lowbit/Support/LLVM.h"
#include <memory>
#include <string>
#include <vector>

namespace llvm {
class LLVMContext;
class Module;
} // namespace llvm

namespace mlir::gpu {
class GPUModuleOp;
}

namespace lowbit::cuda {

/// The dialects, conversions and translations that emission needs; call before the context is made.
void registerEmission(DialectRegistry &registry);

/// Succeeds for a GPU that kernels can be compiled for; else an error at `loc` that lists them.
/// LLVM would end the process on the others.
LogicalResult verifyChip(StringRef chip, Location loc);

/// An empty module of device code for `chip`. Null after an error.
std::unique_ptr<llvm::Module> makeDeviceModule(StringRef name, StringRef chip,
                                               llvm::LLVMContext &context, Location loc);

/// A gpu.module of gpu, scf, arith, memref, vector and nvvm ops as LLVM IR for `chip`, optimized:
/// what both PTX and the emulator are made of. Works on a copy. Null after an error, also where a
/// call stays that no library answers.
std::unique_ptr<llvm::Module> translateKernels(gpu::GPUModuleOp module, StringRef chip,
                                               llvm::LLVMContext &context);

FailureOr<std::string> emitPTX(llvm::Module &module, StringRef chip, Location loc);

/// What ptxas says of one kernel.
struct KernelResources {
  std::string name;
  int64_t registers = 0, spillBytes = 0;
};

/// What ptxas makes of a module, and says of it: the largest figures where there are several kernels.
struct Cubin {
  std::string bytes;
  std::vector<KernelResources> kernels;
  int64_t registers = 0, spillBytes = 0, stackBytes = 0, staticSharedBytes = 0;
};

/// Runs ptxas: $LOWBIT_PTXAS, $CUDA_HOME/bin, $PATH, or the nvidia-cuda-nvcc package of the Python
/// environment ($VIRTUAL_ENV, or the one that this program is installed in). The error where there
/// is none starts with "ptxas is not available".
FailureOr<Cubin> assemble(StringRef ptx, StringRef chip, Location loc);
/// The same for several chips at once, in their order.
FailureOr<std::vector<Cubin>> assembleAll(StringRef ptx, ArrayRef<std::string> chips, Location loc);
/// Its path, or "".
std::string findPtxas();
/// Packs a cubin per chip and the PTX, which is for the first chip, with the toolkit's fatbinary:
/// it stands beside ptxas.
FailureOr<std::string> packFatbin(StringRef ptx, ArrayRef<Cubin> cubins, ArrayRef<std::string> chips,
                                  Location loc);

/// Rewrites the optimized device code into code for this machine's processor family (x86-64-v3)
/// that calls liblowbit-emulator through the table of lowbit/Emulator/Table.h. Fails on an
/// instruction that the emulator does not know.
LogicalResult rewriteForEmulator(llvm::Module &module, Location loc);
/// Compiles rewritten modules and links them into the shared object `path`.
LogicalResult emitEmulatorObject(ArrayRef<llvm::Module *> modules, StringRef path, Location loc);

} // namespace lowbit::cuda

#endif // LOWBIT_TARGET_CUDA_EMIT_H
