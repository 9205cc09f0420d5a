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
#include <memory>
#include <optional>

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

/// The figures of each kernel in the output of `ptxas -v`.
static std::vector<cuda::KernelResources> perKernel(StringRef log) {
  std::vector<cuda::KernelResources> kernels;
  static constexpr StringLiteral entry = "Compiling entry function '";
  for (size_t at = log.find(entry); at != StringRef::npos;) {
    StringRef rest = log.substr(at + entry.size());
    size_t next = rest.find(entry);
    StringRef mine = rest.substr(0, next);
    kernels.push_back({mine.take_until([](char c) { return c == '\''; }).str(),
                       largest(mine, "registers"),
                       std::max(largest(mine, "bytes spill stores"),
                                largest(mine, "bytes spill loads"))});
    at = next == StringRef::npos ? next : at + entry.size() + next;
  }
  return kernels;
}

namespace {
/// Files that go with the object.
class TemporaryFile {
public:
  explicit TemporaryFile(StringRef suffix) {
    failed = bool(fs::createTemporaryFile("lowbit", suffix, path));
  }
  ~TemporaryFile() {
    if (!failed)
      fs::remove(path);
  }
  TemporaryFile(const TemporaryFile &) = delete;
  bool write(StringRef bytes) {
    std::error_code error;
    llvm::raw_fd_ostream stream(path, error);
    if (failed || error)
      return false;
    stream << bytes;
    stream.close();
    error = stream.error();
    stream.clear_error();
    return !error;
  }
  /// Nothing where it cannot be read.
  std::optional<std::string> read() const {
    auto buffer = llvm::MemoryBuffer::getFile(path);
    return buffer ? std::optional((*buffer)->getBuffer().str()) : std::nullopt;
  }
  SmallString<128> path;

private:
  bool failed;
};

/// One tool at work.
struct ToolRun {
  TemporaryFile output, log;
  llvm::sys::ProcessInfo process;
  std::string message;

  explicit ToolRun(StringRef suffix) : output(suffix), log("log") {}
  void start(StringRef tool, ArrayRef<StringRef> arguments) {
    std::optional<StringRef> redirects[] = {std::nullopt, StringRef(log.path), StringRef(log.path)};
    bool failed = false;
    process =
        llvm::sys::ExecuteNoWait(tool, arguments, std::nullopt, redirects, 0, &message, &failed);
  }
  /// What it said; nothing where it failed, and `message` says why.
  std::optional<std::string> wait() {
    if (process.Pid == llvm::sys::ProcessInfo::InvalidPid)
      return std::nullopt;
    int code = llvm::sys::Wait(process, std::nullopt, &message).ReturnCode;
    std::string said = log.read().value_or("");
    if (code == 0)
      return said;
    if (message.empty())
      message = StringRef(said).trim().str();
    return std::nullopt;
  }
};
} // namespace

FailureOr<std::vector<cuda::Cubin>> cuda::assembleAll(StringRef ptx, ArrayRef<std::string> chips,
                                                      Location loc) {
  std::string ptxas = findPtxas();
  if (ptxas.empty())
    return emitError(loc) << "ptxas is not available: set CUDA_HOME, put it on PATH, or install "
                             "the Python package "
                             "nvidia-cuda-nvcc";
  TemporaryFile input("ptx");
  if (!input.write(ptx))
    return emitError(loc) << "cannot write a temporary file " << input.path;
  std::vector<std::unique_ptr<ToolRun>> runs;
  for (const std::string &chip : chips) {
    runs.push_back(std::make_unique<ToolRun>("cubin"));
    std::string arch = "-arch=" + chip;
    runs.back()->start(ptxas,
                       {ptxas, "-v", "-O3", arch, input.path, "-o", runs.back()->output.path});
  }
  std::vector<Cubin> cubins;
  bool failed = false;
  for (auto [run, chip] : llvm::zip(runs, chips)) {
    std::optional<std::string> said = run->wait();
    std::optional<std::string> bytes = run->output.read();
    if (!said || !bytes) {
      failed = true;
      emitError(loc) << "ptxas failed for " << chip << ": "
                     << (said ? "it wrote nothing" : run->message);
      continue;
    }
    Cubin cubin;
    cubin.bytes = std::move(*bytes);
    cubin.kernels = perKernel(*said);
    cubin.registers = largest(*said, "registers");
    cubin.spillBytes =
        std::max(largest(*said, "bytes spill stores"), largest(*said, "bytes spill loads"));
    cubin.stackBytes = largest(*said, "bytes stack frame");
    cubin.staticSharedBytes = largest(*said, "bytes smem");
    cubins.push_back(std::move(cubin));
  }
  if (failed)
    return failure();
  return cubins;
}

FailureOr<cuda::Cubin> cuda::assemble(StringRef ptx, StringRef chip, Location loc) {
  FailureOr<std::vector<Cubin>> cubins = assembleAll(ptx, chip.str(), loc);
  if (failed(cubins))
    return failure();
  return std::move(cubins->front());
}

FailureOr<std::string> cuda::packFatbin(StringRef ptx, ArrayRef<Cubin> cubins,
                                        ArrayRef<std::string> chips, Location loc) {
  SmallString<128> tool(findPtxas());
  path::remove_filename(tool);
  path::append(tool, "fatbinary");
  if (!fs::can_execute(tool))
    return emitError(loc) << "fatbinary is not available: it is expected beside ptxas, at " << tool;
  ToolRun run("fatbin");
  std::vector<std::string> arguments = {tool.str().str(), "--64", "--create",
                                        run.output.path.str().str()};
  std::vector<std::unique_ptr<TemporaryFile>> files;
  auto image = [&](StringRef kind, StringRef chip, StringRef bytes) {
    files.push_back(std::make_unique<TemporaryFile>(kind));
    arguments.push_back(("--image3=kind=" + kind + ",sm=" + chip.substr(3) +
                         ",file=" + files.back()->path)
                            .str());
    return files.back()->write(bytes);
  };
  bool written = image("ptx", chips.front(), ptx);
  for (auto [cubin, chip] : llvm::zip(cubins, chips))
    written &= image("elf", chip, cubin.bytes);
  if (!written)
    return emitError(loc) << "cannot write temporary files for fatbinary";
  run.start(tool, llvm::to_vector(llvm::map_range(arguments, [](const std::string &argument) {
              return StringRef(argument);
            })));
  std::optional<std::string> bytes;
  if (!run.wait() || !(bytes = run.output.read()))
    return emitError(loc) << "fatbinary failed: " << run.message;
  return std::move(*bytes);
}
