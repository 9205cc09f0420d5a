//===- EmulatorObject.cpp - rewritten device code to emulator.so ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/CUDA/Emit.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"

using namespace lowbit;

static LogicalResult emitObject(llvm::Module &module, llvm::TargetMachine &machine, StringRef path, Location loc) {
  module.setTargetTriple(machine.getTargetTriple());
  module.setDataLayout(machine.createDataLayout());
  std::error_code error;
  llvm::raw_fd_ostream stream(path, error);
  if (error)
    return emitError(loc) << "cannot write " << path << ": " << error.message();
  llvm::legacy::PassManager passes;
  if (machine.addPassesToEmitFile(passes, stream, nullptr, llvm::CodeGenFileType::ObjectFile))
    return emitError(loc) << "this LLVM cannot write x86-64 objects";
  passes.run(module);
  return success();
}

LogicalResult cuda::emitEmulatorObject(ArrayRef<llvm::Module *> modules, StringRef path, Location loc) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
  llvm::Triple triple("x86_64-unknown-linux-gnu");
  std::string error;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return emitError(loc) << "this LLVM has no x86-64 code generator: " << error;
  std::unique_ptr<llvm::TargetMachine> machine(
      target->createTargetMachine(triple, "x86-64-v3", "", llvm::TargetOptions(), llvm::Reloc::PIC_, std::nullopt,
                                  llvm::CodeGenOptLevel::Less));
  std::vector<std::unique_ptr<llvm::FileRemover>> removers;
  std::vector<std::string> arguments = {"ld.lld-22", "-shared", "--build-id=none", "-o", path.str()};
  for (llvm::Module *module : modules) {
    SmallString<128> object;
    if (auto error = llvm::sys::fs::createTemporaryFile("lowbit-emulator", "o", object))
      return emitError(loc) << "cannot make a temporary file: " << error.message();
    removers.push_back(std::make_unique<llvm::FileRemover>(object));
    if (failed(emitObject(*module, *machine, object, loc)))
      return failure();
    arguments.push_back(std::string(object));
  }
  auto linker = llvm::sys::findProgramByName("ld.lld-22");
  if (!linker)
    return emitError(loc) << "ld.lld-22 is not available";
  SmallVector<StringRef> references(arguments.begin(), arguments.end());
  std::string message;
  if (llvm::sys::ExecuteAndWait(*linker, references, std::nullopt, {}, 0, 0, &message))
    return emitError(loc) << "cannot link " << path << ": " << message;
  return success();
}
