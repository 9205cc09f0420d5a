//===- Compile.cpp - from a model to a bundle, or to one of its forms ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "lowbit/InitAll.h"
#include "lowbit/Target/Target.h"
#include "mlir/IR/DialectRegistry.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"

using namespace lowbit;

/// Removes a folder that one of our own calls filled.
static void removeFolder(const std::string &folder) {
  llvm::sys::fs::remove_directories(folder, /*IgnoreErrors=*/true);
}

/// Runs `fill` on a fresh folder beside `output` and renames it to `output` once it is whole.
static llvm::Error replaceFolder(const std::string &output, bool force,
                                 llvm::function_ref<llvm::Error(const std::string &)> fill) {
  llvm::StringRef trimmed = llvm::StringRef(output).rtrim('/');
  if (trimmed.empty())
    return driverError(2, "no output path");
  bool exists = llvm::sys::fs::exists(trimmed);
  if (exists && !force)
    return driverError(2, trimmed + ": exists already; --force replaces it");
  if (exists && !llvm::sys::fs::exists(trimmed + "/manifest.json"))
    return driverError(2, trimmed + ": is not a bundle, so it is not replaced");
  std::string parent = llvm::sys::path::parent_path(trimmed).str();
  if (!parent.empty() && !llvm::sys::fs::is_directory(parent))
    return driverError(2, parent + ": no such folder");
  std::string fresh =
      (trimmed + ".partial-" + llvm::Twine(llvm::sys::Process::getProcessId())).str();
  removeFolder(fresh);
  if (std::error_code error = llvm::sys::fs::create_directory(fresh))
    return driverError(4, fresh + ": " + error.message());
  llvm::scope_exit clean([&] { removeFolder(fresh); });
  if (llvm::Error error = fill(fresh))
    return error;
  std::string old = fresh + ".old";
  if (exists)
    if (std::error_code error = llvm::sys::fs::rename(trimmed, old))
      return driverError(4, trimmed + ": " + error.message());
  if (std::error_code error = llvm::sys::fs::rename(fresh, trimmed))
    return driverError(4, trimmed + ": " + error.message());
  removeFolder(old);
  return llvm::Error::success();
}

namespace {
using Step = llvm::Error (Compilation::*)();
} // namespace

/// Takes the steps up to and including the one that makes `form`; all of them for "llvm".
static llvm::Error advanceTo(Compilation &compilation, llvm::StringRef form) {
  static constexpr std::pair<const char *, Step> steps[] = {
      {"onnx", &Compilation::import},
      {"float", &Compilation::toFloat},
      {"qdq", &Compilation::toQDQ},
      {"quantized", &Compilation::toQuantized},
      {"scheduled", &Compilation::toScheduled},
      {"llvm", &Compilation::toExecutable}};
  for (auto [name, step] : steps) {
    if (llvm::Error error = (compilation.*step)())
      return error;
    if (form == name)
      return llvm::Error::success();
  }
  return driverError(2, "--emit " + form + ": no such form");
}

/// Fills in what the user left to the target.
static llvm::Expected<const Target *> resolveTarget(CompileOptions &options) {
  mlir::DialectRegistry targets; // Registering dialects registers targets.
  registerAllDialects(targets);
  const Target *target = findTarget(options.target);
  if (!target)
    return driverError(2, "--target " + options.target + ": expected one of " + targetNames());
  if (options.arch.empty())
    options.arch = target->defaultArch().str();
  return target;
}

llvm::Expected<std::string> lowbit::compileBundle(const CompileOptions &given,
                                                  const std::string &output) {
  CompileOptions options = given;
  auto target = resolveTarget(options);
  if (!target)
    return target.takeError();
  std::string report;
  llvm::Error error =
      replaceFolder(output, options.force, [&](const std::string &folder) -> llvm::Error {
        Compilation compilation(options);
        if (llvm::Error error = advanceTo(compilation, "llvm"))
          return error;
        auto text = writeBundle(compilation, folder);
        if (!text)
          return text.takeError();
        report = *text;
        return llvm::Error::success();
      });
  if (error)
    return std::move(error);
  return report;
}

llvm::Expected<std::string> lowbit::emitForm(const CompileOptions &given, const std::string &form) {
  CompileOptions options = given;
  Compilation compilation(options);
  auto target = resolveTarget(options);
  if (!target)
    return target.takeError();
  compilation.options = options;
  if (llvm::is_contained((*target)->deviceForms(), form)) {
    auto files = emitDeviceCode(options, form);
    if (!files)
      return files.takeError();
    std::string text;
    for (auto &[name, bytes] : *files)
      if (!llvm::StringRef(name).ends_with(".json"))
        text += bytes;
    return text;
  }
  if (form == "asm") {
    if (llvm::Error error = advanceTo(compilation, "llvm"))
      return std::move(error);
    auto code = generateCode(compilation, /*assembly=*/true);
    if (!code)
      return code.takeError();
    return std::string(code->begin(), code->end());
  }
  if (llvm::Error error = advanceTo(compilation, form))
    return std::move(error);
  return compilation.print();
}

llvm::Expected<std::vector<std::pair<std::string, std::string>>>
lowbit::emitDeviceCode(const CompileOptions &given, const std::string &form) {
  CompileOptions options = given;
  auto target = resolveTarget(options);
  if (!target)
    return target.takeError();
  if (!llvm::is_contained((*target)->deviceForms(), form))
    return driverError(2, "--emit " + form + ": target " + options.target + " has no such form");
  Compilation compilation(options);
  if (llvm::Error error = advanceTo(compilation, "scheduled"))
    return std::move(error);
  int exitCode = 5;
  auto code = (*target)->emit(compilation.module(), form, options.arch, exitCode);
  if (!code) {
    std::string message = llvm::toString(code.takeError());
    return driverError(exitCode, compilation.firstError(message));
  }
  std::vector<std::pair<std::string, std::string>> files;
  for (DeviceCode &file : *code)
    files.emplace_back(std::move(file.name), std::move(file.bytes));
  return files;
}
