//===- WriteBundle.cpp - the files of a bundle ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "lowbit-c/Model.h"
#include "lowbit/Runtime/Safetensors.h"
#include "lowbit/Runtime/Sha256.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Target/LLVM/Emit.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace lowbit;
namespace json = llvm::json;

static llvm::Error writeFile(const std::string &path, llvm::StringRef bytes) {
  std::error_code error;
  llvm::raw_fd_ostream stream(path, error);
  if (!error) {
    stream << bytes;
    stream.close();
    error = stream.error();
  }
  if (error) {
    stream.clear_error();
    return driverError(4, path + ": cannot write: " + error.message());
  }
  return llvm::Error::success();
}

static std::string hashOf(llvm::StringRef bytes) { return sha256(bytes.data(), bytes.size()); }

/// Hash and size of a file, which is read in pieces: weights would stay in memory as a whole.
static llvm::Expected<json::Object> describeFile(const std::string &path) {
  llvm::Expected<llvm::sys::fs::file_t> file = llvm::sys::fs::openNativeFileForRead(path);
  if (!file)
    return driverError(4, path + ": " + llvm::toString(file.takeError()));
  Sha256 hash;
  int64_t bytes = 0;
  std::vector<char> piece(1 << 20);
  llvm::Expected<size_t> count = 0;
  while ((count = llvm::sys::fs::readNativeFile(*file, piece)) && *count > 0) {
    hash.update(piece.data(), *count);
    bytes += int64_t(*count);
  }
  llvm::sys::fs::closeFile(*file);
  if (!count)
    return driverError(4, path + ": " + llvm::toString(count.takeError()));
  return json::Object{{"sha256", hash.finish()}, {"bytes", bytes}};
}

static const char *safetensorsType(Type type) {
  if (type.isF32())
    return "F32";
  if (type.isF64())
    return "F64";
  if (type.isF16())
    return "F16";
  if (type.isBF16())
    return "BF16";
  if (type.isInteger(1))
    return "BOOL";
  if (type.isInteger(8))
    return "I8";
  if (type.isInteger(16))
    return "I16";
  if (type.isInteger(32))
    return "I32";
  return type.isInteger(64) || type.isIndex() ? "I64" : nullptr;
}

/// Writes the constants at the places that lowbit-place-weights gave them.
static llvm::Expected<uint64_t> writeWeights(const std::vector<Compilation::Weight> &weights,
                                             const std::string &path) {
  SafetensorsWriter writer;
  std::vector<ConstantData> kept; // write() reads them.
  kept.reserve(weights.size());
  for (const Compilation::Weight &weight : weights) {
    std::optional<ConstantData> data = ConstantData::get(weight.value);
    const char *dtype = data ? safetensorsType(data->getType().getElementType()) : nullptr;
    if (!dtype)
      return driverError(5, "constant " + weight.name +
                                " has no bytes or no type for the weights file");
    kept.push_back(*data);
    llvm::ArrayRef<char> bytes = kept.back().bytes();
    uint64_t offset = writer.add(weight.name, dtype, data->getType().getShape().vec(), bytes.data(),
                                 bytes.size());
    if ((int64_t)offset != weight.offset)
      return driverError(5, "constant " + weight.name + " is at " + llvm::Twine(offset) +
                                ", not at " + llvm::Twine(weight.offset));
  }
  std::string error;
  if (!writer.write(path, error))
    return driverError(4, error);
  return writer.dataOffset();
}

llvm::Expected<llvm::SmallVector<char, 0>> lowbit::generateCode(Compilation &compilation,
                                                                bool assembly) {
  ObjectOptions object;
  object.cpu = compilation.processor;
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> module = translateToLLVM(compilation.module(), context, object);
  if (!module)
    return driverError(5, "the LLVM dialect could not be translated to LLVM IR");
  if (llvm::Error error = optimize(*module, object))
    return driverError(5, llvm::toString(std::move(error)));
  auto code = emitObject(*module, object, assembly);
  if (!code)
    return driverError(5, llvm::toString(code.takeError()));
  return code;
}

json::Array lowbit::portsToJSON(const std::vector<PortInfo> &ports) {
  json::Array result;
  for (const PortInfo &port : ports)
    result.push_back(json::Object{{"name", port.name},
                                  {"dtype", port.dtype},
                                  {"dims", json::Array(port.dims)},
                                  {"symbols", json::Array(port.symbols)}});
  return result;
}

/// Totals over the layers; bytes are nominal: weights at their bit width plus scales and zero
/// points, unpadded.
static json::Object summarize(const json::Array &layers) {
  int64_t quantizable = 0, quantized = 0, integer = 0, weightOnly = 0, fp32 = 0, bytes = 0,
          elements = 0;
  json::Array left;
  for (const json::Value &value : layers) {
    const json::Object &layer = *value.getAsObject();
    quantizable += layer.getBoolean("quantizable").value_or(true);
    llvm::StringRef weights = layer.getString("weights").value_or("float");
    if (weights == "float") {
      left.push_back(json::Object{{"name", layer.getString("name").value_or("")},
                                  {"op", layer.getString("op").value_or("")},
                                  {"reason", layer.getString("reason").value_or("")}});
      continue;
    }
    ++quantized;
    bool isInteger = layer.getString("activations").value_or("float") != "float" &&
                     layer.getString("computes").value_or("") != "float";
    (isInteger ? integer : weightOnly) += 1;
    fp32 += layer.getInteger("fp32_bytes").value_or(0);
    bytes += layer.getInteger("bytes").value_or(0);
  }
  elements = fp32 / 4;
  json::Object result{{"quantizable", quantizable}, {"quantized", quantized},
                      {"int8_compute", integer},    {"weight_only", weightOnly},
                      {"fp32_bytes", fp32},         {"quantized_bytes", bytes}};
  result["bits_per_weight"] = elements ? json::Value(8.0 * bytes / elements) : json::Value(nullptr);
  result["left_in_float"] = std::move(left);
  return result;
}

/// What a token costs in all caches together; of sizes that only the run knows null.
static json::Value totalOf(const json::Array &caches, llvm::StringRef key) {
  int64_t total = 0;
  for (const json::Value &cache : caches) {
    std::optional<int64_t> bytes = cache.getAsObject()->getInteger(key);
    if (!bytes)
      return nullptr;
    total += *bytes;
  }
  return total;
}

static json::Object describeCache(const json::Array &caches) {
  return json::Object{{"type", "i8"},
                      {"scales", "f32, per token and head"},
                      {"bytes_per_token", totalOf(caches, "bytes_per_token")},
                      {"float_bytes_per_token", totalOf(caches, "float_bytes_per_token")},
                      {"caches", json::Array(caches)}};
}

llvm::Expected<std::string> lowbit::writeBundle(Compilation &compilation,
                                                const std::string &folder) {
  ModuleOp module = compilation.module();
  auto path = [&](const char *name) { return folder + "/" + name; };
  auto offset = writeWeights(compilation.weights, path("weights.safetensors"));
  if (!offset)
    return offset.takeError();

  auto code = generateCode(compilation, /*assembly=*/false);
  if (!code)
    return code.takeError();
  std::string object = path("model.o");
  if (llvm::Error error = writeFile(object, {code->data(), code->size()}))
    return std::move(error);
  llvm::Error linked = linkShared({object}, path("model.so"),
                                  {"lowbit_model_abi", "lowbit_model_init", "lowbit_model_run"});
  llvm::sys::fs::remove(object);
  if (linked)
    return driverError(5, llvm::toString(std::move(linked)));

  json::Object files;
  std::vector<std::string> names = {"model.so", "weights.safetensors"};
  for (const DeviceCode &file : compilation.device.files) {
    if (llvm::Error error = writeFile(path(file.name.c_str()), file.bytes))
      return std::move(error);
    names.push_back(file.name);
  }
  for (const std::string &name : names) {
    llvm::Expected<json::Object> file = describeFile(path(name.c_str()));
    if (!file)
      return file.takeError();
    files[name] = std::move(*file);
  }

  json::Array observers;
  for (auto [id, observer] : llvm::enumerate(compilation.observers))
    observers.push_back(json::Object{
        {"id", (int64_t)id}, {"name", observer.name}, {"channel_axis", observer.channelAxis}});
  auto modelHash = module->getAttrOfType<StringAttr>("onnx.model_sha256");
  json::Object manifest{{"schema", "lowbit.bundle/1"},
                        {"abi", LOWBIT_MODEL_ABI},
                        {"producer", "lowbit 0.1.0"},
                        {"target", compilation.options.target},
                        {"arch", compilation.processor},
                        {"isa", json::Array(compilation.isa)},
                        {"files", std::move(files)},
                        {"weights_offset", (int64_t)*offset},
                        {"inputs", portsToJSON(compilation.inputs)},
                        {"outputs", portsToJSON(compilation.outputs)},
                        {"observers", std::move(observers)},
                        {"model", json::Object{{"sha256", modelHash ? modelHash.str() : ""}}},
                        {"recipe", json::Object{{"name", compilation.recipeName},
                                                {"sha256", compilation.recipeHash}}},
                        {"layers", json::Array(compilation.layers)},
                        {"summary", summarize(compilation.layers)}};
  if (!compilation.device.files.empty()) {
    llvm::Expected<json::Value> kernels = json::parse(compilation.device.kernels);
    if (!kernels)
      return kernels.takeError();
    json::Array hostReads;
    for (int64_t input : compilation.device.hostReads)
      hostReads.push_back(compilation.inputs[size_t(input)].name);
    manifest["device"] = json::Object{{"arch", compilation.options.arch},
                                      {"host_reads", std::move(hostReads)},
                                      {"synchronizes", compilation.device.synchronizes},
                                      {"kernels", std::move(*kernels)}};
  }
  if (!compilation.options.calibration.empty()) {
    auto buffer = llvm::MemoryBuffer::getFile(compilation.options.calibration, false, false);
    if (!buffer)
      return driverError(2, compilation.options.calibration + ": " + buffer.getError().message());
    json::Object calibration{{"sha256", hashOf((*buffer)->getBuffer())}};
    std::string error;
    if (auto header =
            parseSafetensors((*buffer)->getBufferStart(), (*buffer)->getBufferSize(), error)) {
      int64_t samples = 0;
      if (auto found = header->metadata.find("samples"); found != header->metadata.end())
        llvm::StringRef(found->second).getAsInteger(10, samples);
      calibration["samples"] = samples;
      if (auto found = header->metadata.find("data_sha256"); found != header->metadata.end())
        calibration["data_sha256"] = found->second;
    }
    manifest["calibration"] = std::move(calibration);
  }

  if (const SequentialResult *rounded = compilation.options.rounded.get())
    manifest["quantized_on"] =
        json::Object{{"data_sha256", rounded->dataSha256}, {"samples", rounded->samples}};

  json::Array caches = compilation.heldCaches();
  if (!caches.empty())
    manifest["kv_cache"] = describeCache(caches);

  json::Object report{{"schema", "lowbit.report/1"},
                      {"recipe", compilation.recipeName},
                      {"layers", json::Array(compilation.layers)},
                      {"summary", summarize(compilation.layers)},
                      {"remarks", json::Array(compilation.remarks)}};
  if (!caches.empty())
    report["kv_cache"] = describeCache(caches);
  std::string reportText = llvm::formatv("{0:2}\n", json::Value(std::move(report)));
  if (llvm::Error error = writeFile(path("report.json"), reportText))
    return std::move(error);
  if (llvm::Error error = writeFile(path("recipe.yaml"), compilation.recipeText))
    return std::move(error);
  if (llvm::Error error = writeFile(
          path("manifest.json"), llvm::formatv("{0:2}\n", json::Value(std::move(manifest))).str()))
    return std::move(error);
  return reportText;
}
