//===- TemporaryBundle.cpp - a compiled model that runs here and now ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "TemporaryBundle.h"
#include "Compilation.h"
#include "llvm/Support/FileSystem.h"
#ifdef __GLIBC__
#include <malloc.h>
#endif

using namespace lowbit;

llvm::Error TemporaryBundle::write(Compilation &compilation, llvm::StringRef purpose) {
  llvm::SmallString<128> path;
  if (std::error_code error = llvm::sys::fs::createUniqueDirectory("lowbit-" + purpose, path))
    return driverError(4, "cannot create a temporary folder: " + error.message());
  folder = path.str().str();
  auto report = writeBundle(compilation, folder);
  return report ? llvm::Error::success() : report.takeError();
}

llvm::Error TemporaryBundle::open(int threads) {
#ifdef __GLIBC__
  malloc_trim(0); // What the compiler has freed, its heap keeps.
#endif
  lowbit_open_options options{sizeof(lowbit_open_options), threads, nullptr, nullptr};
  lowbit_status status = lowbit_bundle_open(folder.c_str(), &options, &bundle);
  return status == LOWBIT_OK ? llvm::Error::success()
                             : llvm::Error(driverError(status, lowbit_last_error()));
}

void TemporaryBundle::close() {
  lowbit_bundle_close(bundle);
  bundle = nullptr;
  if (!folder.empty())
    llvm::sys::fs::remove_directories(folder, true);
  folder.clear();
}
