//===- BuildLibrary.cpp - all kernels of a bundle in one file ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/CUDA/Emit.h"
#include "lowbit/Target/CUDA/Pipeline.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Linker/Linker.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Transforms/Utils/Cloning.h"

using namespace lowbit;
using namespace lowbit::cuda;

/// Device code rewritten and linked for this machine, as bytes.
static FailureOr<std::string> buildEmulator(std::vector<std::unique_ptr<llvm::Module>> &modules,
                                            Location loc) {
  SmallVector<llvm::Module *> pointers;
  for (auto &module : modules) {
    if (failed(rewriteForEmulator(*module, loc)))
      return failure();
    pointers.push_back(module.get());
  }
  SmallString<128> path;
  if (auto error = llvm::sys::fs::createTemporaryFile("lowbit-emulator", "so", path))
    return emitError(loc) << "cannot make a temporary file: " << error.message();
  llvm::FileRemover remove(path);
  if (failed(emitEmulatorObject(pointers, path, loc)))
    return failure();
  auto bytes = llvm::MemoryBuffer::getFile(path);
  if (!bytes)
    return emitError(loc) << "cannot read " << path << ": " << bytes.getError().message();
  return (*bytes)->getBuffer().str();
}

FailureOr<KernelLibrary> cuda::buildLibrary(ModuleOp module, ArrayRef<std::string> chips) {
  Location loc = module.getLoc();
  KernelLibrary library;
  library.kernels = describeKernels(module);
  llvm::LLVMContext context;
  std::vector<std::unique_ptr<llvm::Module>> emulated;
  // Begins with a module without kernels: a model may need none.
  std::unique_ptr<llvm::Module> whole = makeDeviceModule("kernels", chips.front(), context, loc);
  if (!whole)
    return failure();
  emulated.push_back(llvm::CloneModule(*whole));
  for (auto device : module.getOps<gpu::GPUModuleOp>()) {
    std::unique_ptr<llvm::Module> code = translateKernels(device, chips.front(), context);
    if (!code)
      return failure();
    emulated.push_back(llvm::CloneModule(*code));
    if (llvm::Linker::linkModules(*whole, std::move(code)))
      return emitError(device.getLoc()) << "kernels could not be put into one module";
  }
  FailureOr<std::string> emulator = buildEmulator(emulated, loc);
  if (failed(emulator))
    return failure();
  library.emulator = std::move(*emulator);
  FailureOr<std::string> ptx = emitPTX(*whole, chips.front(), loc);
  if (failed(ptx))
    return failure();
  FailureOr<std::vector<Cubin>> cubins = assembleAll(*ptx, chips, loc);
  if (failed(cubins))
    return failure();
  llvm::StringMap<const KernelResources *> figures;
  for (const KernelResources &kernel : cubins->front().kernels)
    figures[kernel.name] = &kernel;
  for (KernelCode &kernel : library.kernels)
    if (auto found = figures.find(kernel.name); found != figures.end()) {
      kernel.registers = found->second->registers;
      kernel.spillBytes = found->second->spillBytes;
    }
  FailureOr<std::string> fatbin = packFatbin(*ptx, *cubins, chips, loc);
  if (failed(fatbin))
    return failure();
  library.fatbin = std::move(*fatbin);
  return library;
}
