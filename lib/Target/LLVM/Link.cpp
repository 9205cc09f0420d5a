//===- Link.cpp - objects to a shared object, in process ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lld/Common/Driver.h"
#include "lowbit/Target/LLVM/Emit.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"
#include <mutex>

LLD_HAS_DRIVER(elf)

using namespace lowbit;

llvm::Error lowbit::linkShared(ArrayRef<std::string> objects, StringRef output,
                               ArrayRef<std::string> exports) {
  // A version script both hides what is not exported and keeps --gc-sections honest.
  SmallString<128> script;
  int descriptor;
  if (std::error_code error =
          llvm::sys::fs::createTemporaryFile("lowbit-exports", "ver", descriptor, script))
    return llvm::createStringError(error, "cannot create a temporary file");
  llvm::scope_exit remove([&] { llvm::sys::fs::remove(script); });
  {
    llvm::raw_fd_ostream stream(descriptor, /*shouldClose=*/true);
    stream << "{ global: ";
    for (const std::string &name : exports)
      stream << name << "; ";
    stream << "local: *; };\n";
  }
  std::string version = ("--version-script=" + script).str(), out = output.str();
  std::vector<const char *> args = {"ld.lld",
                                    "-shared",
                                    "--build-id=none",
                                    "--hash-style=gnu",
                                    "--gc-sections",
                                    "--strip-all",
                                    "-z",
                                    "noexecstack",
                                    "-z",
                                    "now",
                                    version.c_str(),
                                    "-o",
                                    out.c_str()};
  for (const std::string &object : objects)
    args.push_back(object.c_str());

  static std::mutex mutex; // LLD keeps its state in globals.
  std::lock_guard<std::mutex> lock(mutex);
  std::string messages;
  llvm::raw_string_ostream stream(messages);
  lld::Result result = lld::lldMain(args, llvm::nulls(), stream, {{lld::Gnu, &lld::elf::link}});
  if (result.retCode != 0)
    return llvm::createStringError("linking failed: " + stream.str());
  return llvm::Error::success();
}
