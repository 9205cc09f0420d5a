//===- Export.cpp - a quantized model for another runtime -------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "lowbit/Export/ONNX/ExportONNX.h"
#include "lowbit/Import/ONNX/ImportONNX.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"

using namespace lowbit;
namespace json = llvm::json;

/// Above this the tensors get a file of their own: protobuf ends at 2 GiB, and runtimes map
/// external data.
static constexpr int64_t kInlineBytes = int64_t(1) << 30;

llvm::Expected<std::string> lowbit::exportModel(const CompileOptions &options,
                                                const ExportRequest &request,
                                                const std::string &output) {
  llvm::StringRef known = exportRuntimes();
  llvm::SmallVector<llvm::StringRef> runtimes;
  known.split(runtimes, ", ");
  if (!llvm::is_contained(runtimes, request.runtime))
    return driverError(2, "--for " + request.runtime + ": expected one of " + known);
  if (output.empty())
    return driverError(2, "no output path");
  if (llvm::sys::fs::exists(output) && !options.force)
    return driverError(2, output + ": exists already; --force replaces it");
  Compilation compilation(options);
  for (auto step : {&Compilation::import, &Compilation::toFloat, &Compilation::toQDQ})
    if (llvm::Error error = (compilation.*step)())
      return std::move(error);
  if (!compilation.heldCaches().empty())
    return driverError(3, options.model + ": a cache of keys and values in i8 (kv_cache) has scales "
                                          "that the run gives, which " + request.runtime +
                              " has no ports for: leave kv_cache out of the recipe");
  compilation.recordDecisions();

  std::string dataPath = output + ".data";
  std::string suffix = ".partial-" + std::to_string(llvm::sys::Process::getProcessId());
  llvm::scope_exit clean([&] {
    llvm::sys::fs::remove(output + suffix);
    llvm::sys::fs::remove(dataPath + suffix);
  });
  std::error_code error;
  llvm::raw_fd_ostream stream(output + suffix, error);
  if (error)
    return driverError(4, output + ": " + error.message());
  ExportOptions exported;
  exported.runtime = request.runtime;
  exported.names = readGraphNames(options.model, *compilation.module().getContext());
  std::optional<llvm::raw_fd_ostream> data;
  if (request.externalData || constantBytes(compilation.module()) > kInlineBytes) {
    if (llvm::sys::fs::exists(dataPath) && !options.force)
      return driverError(2, dataPath + ": exists already; --force replaces it");
    exported.dataFile = llvm::sys::path::filename(dataPath).str();
    data.emplace(dataPath + suffix, error);
    if (error)
      return driverError(4, dataPath + ": " + error.message());
    exported.data = &*data;
  }
  if (failed(exportONNX(compilation.module(), stream, exported)))
    return compilation.takeError(3, "writing the model");
  // The model last: where it is, its data is too.
  auto finish = [&](llvm::raw_fd_ostream &file, const std::string &path) -> llvm::Error {
    file.close();
    std::error_code error = file.error();
    file.clear_error();
    if (!error)
      error = llvm::sys::fs::rename(path + suffix, path);
    return error ? driverError(4, path + ": " + error.message()) : llvm::Error::success();
  };
  if (data)
    if (llvm::Error failure = finish(*data, dataPath))
      return std::move(failure);
  if (llvm::Error failure = finish(stream, output))
    return std::move(failure);
  json::Object report{{"schema", "lowbit.export/1"},
                      {"for", request.runtime},
                      {"recipe", compilation.recipeName},
                      {"external_data", exported.dataFile},
                      {"layers", json::Array(compilation.layers)},
                      {"remarks", json::Array(compilation.remarks)}};
  return llvm::formatv("{0:2}\n", json::Value(std::move(report))).str();
}
