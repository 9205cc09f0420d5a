//===- Emit.h - LLVM IR to object code to shared objects ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TARGET_LLVM_EMIT_H
#define LOWBIT_TARGET_LLVM_EMIT_H

#include "lowbit/Support/LLVM.h"
#include "llvm/Support/Error.h"
#include <memory>
#include <string>

namespace llvm {
class LLVMContext;
class Module;
} // namespace llvm

namespace lowbit {

/// What code is generated for. `cpu` is an LLVM processor name ("x86-64-v3").
struct ObjectOptions {
  std::string cpu = "x86-64-v3";
  std::string features;
};

/// The translations from the LLVM dialect that lowbit's code uses (llvm, builtin).
void registerLLVMTranslations(DialectRegistry &registry);

/// Translates a module of the LLVM dialect for the host's architecture; null (after a diagnostic)
/// where it cannot.
std::unique_ptr<llvm::Module> translateToLLVM(ModuleOp module, llvm::LLVMContext &context,
                                              const ObjectOptions &options);

/// Runs LLVM's O3 pipeline on `module` for the given processor. Floating-point meaning is kept: no
/// fast-math.
llvm::Error optimize(llvm::Module &module, const ObjectOptions &options);

/// Optimized IR to a relocatable object, or to assembly text.
llvm::Expected<SmallVector<char, 0>> emitObject(llvm::Module &module, const ObjectOptions &options,
                                                bool assembly = false);

/// Links objects into the shared object `output` with LLD in this process. Deterministic: no build
/// id, no paths. `exports` are the only visible symbols; libc and libm are the only libraries it
/// may need.
llvm::Error linkShared(ArrayRef<std::string> objects, StringRef output,
                       ArrayRef<std::string> exports);

} // namespace lowbit

#endif // LOWBIT_TARGET_LLVM_EMIT_H
