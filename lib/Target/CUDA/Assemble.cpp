//===- Assemble.cpp - PTX to cubin by ptxas ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/CUDA/Emit.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/Regex.h"
#include "llvm/Support/raw_ostream.h"

using namespace lowbit;
namespace fs = llvm::sys::fs;
namespace path = llvm::sys::path;

/// ptxas below `environment`/lib/python3.x/site-packages/nvidia, wherever that wheel's version puts
/// it.
static std::string inPythonEnvironment(StringRef environment) {
  SmallString<128> lib(environment);
  path::append(lib, "lib");
  std::error_code error;
  for (fs::directory_iterator python(lib, error), end; !error && python != end;
       python.increment(error)) {
    SmallString<128> packages(python->path());
    path::append(packages, "site-packages", "nvidia");
    std::error_code inner;
    for (fs::directory_iterator package(packages, inner); !inner && package != end;
         package.increment(inner)) {
      SmallString<128> candidate(package->path());
      path::append(candidate, "bin", "ptxas");
      if (fs::can_execute(candidate))
        return std::string(candidate);
    }
  }
  return "";
}

std::string cuda::findPtxas() {
  if (auto named = llvm::sys::Process::GetEnv("LOWBIT_PTXAS"); named && fs::can_execute(*named))
    return *named;
  if (auto home = llvm::sys::Process::GetEnv("CUDA_HOME")) {
    SmallString<128> candidate(*home);
    path::append(candidate, "bin", "ptxas");
    if (fs::can_execute(candidate))
      return std::string(candidate);
  }
  if (auto found = llvm::sys::findProgramByName("ptxas"))
    return *found;
  if (auto environment = llvm::sys::Process::GetEnv("VIRTUAL_ENV"))
    if (std::string found = inPythonEnvironment(*environment); !found.empty())
      return found;
  // This program may be a Python's, a tool installed beside one, or one in build/bin of a checkout
  // with a .venv.
  SmallString<128> folder(fs::getMainExecutable(nullptr, nullptr));
  for (int i = 0; i < 3 && !folder.empty(); ++i) {
    path::remove_filename(folder);
    for (StringRef environment : {"", ".venv"}) {
      SmallString<128> candidate(folder);
      path::append(candidate, environment);
      if (std::string found = inPythonEnvironment(candidate); !found.empty())
        return found;
    }
  }
  return "";
}

/// The largest number in front of `words` in the output of `ptxas -v`.
static int64_t largest(StringRef log, StringRef words) {
  int64_t result = 0;
  llvm::Regex pattern(("([0-9]+) " + words).str());
  SmallVector<StringRef> match;
  while (pattern.match(log, &match)) {
    int64_t value = 0;
    match[1].getAsInteger(10, value);
    result = std::max(result, value);
    log = log.substr(match[0].end() - log.begin());
  }
  return result;
}

FailureOr<cuda::Cubin> cuda::assemble(StringRef ptx, StringRef chip, Location loc) {
  std::string ptxas = findPtxas();
  if (ptxas.empty())
    return emitError(loc) << "ptxas is not available: set CUDA_HOME, put it on PATH, or install "
                             "the Python package "
                             "nvidia-cuda-nvcc";
  SmallString<128> input, output, log;
  int descriptor;
  if (auto error = fs::createTemporaryFile("lowbit", "ptx", descriptor, input))
    return emitError(loc) << "cannot make a temporary file: " << error.message();
  llvm::FileRemover removeInput(input);
  {
    llvm::raw_fd_ostream stream(descriptor, /*shouldClose=*/true);
    stream << ptx;
    stream.close();
    if (stream.has_error()) {
      std::error_code error = stream.error();
      stream.clear_error();
      return emitError(loc) << "cannot write " << input << ": " << error.message();
    }
  }
  if (auto error = fs::createTemporaryFile("lowbit", "cubin", output))
    return emitError(loc) << "cannot make a temporary file: " << error.message();
  llvm::FileRemover removeOutput(output);
  if (auto error = fs::createTemporaryFile("lowbit", "log", log))
    return emitError(loc) << "cannot make a temporary file: " << error.message();
  llvm::FileRemover removeLog(log);
  std::string arch = ("-arch=" + chip).str();
  StringRef arguments[] = {ptxas, "-v", "-O3", arch, input, "-o", output};
  std::optional<StringRef> redirects[] = {std::nullopt, StringRef(log), StringRef(log)};
  std::string message;
  int code = llvm::sys::ExecuteAndWait(ptxas, arguments, std::nullopt, redirects, 0, 0, &message);
  auto text = llvm::MemoryBuffer::getFile(log);
  StringRef said = text ? (*text)->getBuffer() : "";
  if (code != 0)
    return emitError(loc) << "ptxas failed for " << chip << ": "
                          << (message.empty() ? said.trim().str() : message);
  auto bytes = llvm::MemoryBuffer::getFile(output);
  if (!bytes)
    return emitError(loc) << "cannot read what ptxas wrote: " << bytes.getError().message();
  Cubin cubin;
  cubin.bytes = (*bytes)->getBuffer().str();
  cubin.registers = largest(said, "registers");
  cubin.spillBytes =
      std::max(largest(said, "bytes spill stores"), largest(said, "bytes spill loads"));
  cubin.stackBytes = largest(said, "bytes stack frame");
  cubin.staticSharedBytes = largest(said, "bytes smem");
  return cubin;
}
