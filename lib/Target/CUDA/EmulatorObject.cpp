//===- EmulatorObject.cpp - rewritten device code to emulator.so ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/CUDA/Emit.h"
#include "lowbit/Target/LLVM/Emit.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/raw_ostream.h"

using namespace lowbit;

LogicalResult cuda::emitEmulatorObject(ArrayRef<llvm::Module *> modules, StringRef path,
                                       Location loc) {
  std::vector<std::unique_ptr<llvm::FileRemover>> removers;
  std::vector<std::string> objects;
  for (llvm::Module *module : modules) {
    auto bytes = emitObject(*module, ObjectOptions());
    if (!bytes)
      return emitError(loc) << "cannot compile the emulated kernels: "
                            << llvm::toString(bytes.takeError());
    SmallString<128> object;
    int descriptor;
    if (auto error = llvm::sys::fs::createTemporaryFile("lowbit-emulator", "o", descriptor, object))
      return emitError(loc) << "cannot make a temporary file: " << error.message();
    removers.push_back(std::make_unique<llvm::FileRemover>(object));
    llvm::raw_fd_ostream stream(descriptor, /*shouldClose=*/true);
    stream.write(bytes->data(), bytes->size());
    stream.close();
    if (stream.has_error()) {
      std::error_code error = stream.error();
      stream.clear_error();
      return emitError(loc) << "cannot write " << object << ": " << error.message();
    }
    objects.push_back(std::string(object));
  }
  if (llvm::Error error = linkShared(objects, path, {"lowbit_emu_*"}))
    return emitError(loc) << "cannot link " << path << ": " << llvm::toString(std::move(error));
  return success();
}
