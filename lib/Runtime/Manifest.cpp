//===- Manifest.cpp - what a bundle says about itself -----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Manifest.h"

#include "Failure.h"
#include "Json.h"
#include "Tensor.h"
#include "lowbit-c/Model.h"

#include <set>

namespace lowbit::runtime {

namespace {

/// Reads fields and names them in errors.
class Reader {
public:
  [[noreturn]] static void refuse(const std::string &where, const std::string &what) {
    fail(LOWBIT_INVALID, "manifest.json: " + where + " " + what);
  }

  static const Json &get(const Json &object, const char *key, const std::string &where) {
    const Json *value = member(object, key);
    if (!value)
      refuse(where, "is missing");
    return *value;
  }

  static std::string text(const Json &value, const std::string &where) {
    if (!value.is_string())
      refuse(where, "is not a string");
    std::string result = value.get<std::string>();
    for (char c : result)
      if (static_cast<unsigned char>(c) < 0x20)
        refuse(where, "contains a control character");
    return result;
  }

  static int64_t number(const Json &value, const std::string &where) {
    std::optional<int64_t> result = integer(value);
    if (!result)
      refuse(where, "is not a 64-bit integer");
    return *result;
  }

  static const Json &array(const Json &object, const char *key, const std::string &where) {
    const Json &value = get(object, key, where);
    if (!value.is_array())
      refuse(where, "is not an array");
    return value;
  }
};

} // namespace

static FileInfo readFile(const Json &files, const char *name) {
  std::string where = std::string("files.") + name;
  const Json &json = Reader::get(files, name, where);
  FileInfo info;
  info.sha256 = Reader::text(Reader::get(json, "sha256", where + ".sha256"), where + ".sha256");
  if (info.sha256.size() != 64 ||
      info.sha256.find_first_not_of("0123456789abcdef") != std::string::npos)
    Reader::refuse(where + ".sha256", "is not 64 lower-case hexadecimal digits");
  info.bytes = Reader::number(Reader::get(json, "bytes", where + ".bytes"), where + ".bytes");
  if (info.bytes < 0)
    Reader::refuse(where + ".bytes", "is negative");
  return info;
}

static ValueInfo readValue(const Json &json, const std::string &where) {
  ValueInfo info;
  info.name = Reader::text(Reader::get(json, "name", where + ".name"), where + ".name");
  std::string dtype = Reader::text(Reader::get(json, "dtype", where + ".dtype"), where + ".dtype");
  std::optional<lowbit_dtype> parsed = parseDtype(dtype);
  if (!parsed)
    fail(LOWBIT_UNSUPPORTED,
         "manifest.json: " + where + ".dtype " + inQuotes(dtype) + " is unknown to this runtime");
  info.dtype = *parsed;
  const Json &dims = Reader::array(json, "dims", where + ".dims");
  const Json &symbols = Reader::array(json, "symbols", where + ".symbols");
  if (dims.size() > LOWBIT_MAX_RANK)
    Reader::refuse(where + ".dims", "has " + std::to_string(dims.size()) + " entries, at most " +
                                        std::to_string(LOWBIT_MAX_RANK) + " are supported");
  if (symbols.size() != dims.size())
    Reader::refuse(where + ".symbols", "has " + std::to_string(symbols.size()) + " entries, dims " +
                                           std::to_string(dims.size()));
  for (size_t i = 0; i < dims.size(); ++i) {
    std::string at = where + ".dims[" + std::to_string(i) + "]";
    int64_t dim = Reader::number(dims[i], at);
    if (dim < -1)
      Reader::refuse(at, "is " + std::to_string(dim) + ", expected a size or -1");
    info.dims.push_back(dim);
    info.symbols.push_back(Reader::text(symbols[i], where + ".symbols[" + std::to_string(i) + "]"));
  }
  return info;
}

static std::vector<ValueInfo> readValues(const Json &root, const char *key) {
  std::vector<ValueInfo> values;
  std::set<std::string> names;
  const Json &array = Reader::array(root, key, key);
  for (size_t i = 0; i < array.size(); ++i) {
    std::string where = std::string(key) + "[" + std::to_string(i) + "]";
    values.push_back(readValue(array[i], where));
    if (!names.insert(values.back().name).second)
      Reader::refuse(where, "repeats the name " + inQuotes(values.back().name));
  }
  return values;
}

static void checkVersions(const Json &root) {
  std::string schema = Reader::text(Reader::get(root, "schema", "schema"), "schema");
  if (schema != "lowbit.bundle/1")
    fail(LOWBIT_UNSUPPORTED,
         "the bundle has schema " + inQuotes(schema) + ", this runtime reads 'lowbit.bundle/1'");
  int64_t abi = Reader::number(Reader::get(root, "abi", "abi"), "abi");
  if (abi != LOWBIT_MODEL_ABI)
    fail(LOWBIT_UNSUPPORTED, "the bundle has ABI " + std::to_string(abi) + ", this runtime has " +
                                 std::to_string(LOWBIT_MODEL_ABI) +
                                 "; compile the model again with a matching lowbit");
}

static std::vector<KernelInfo> readKernels(const Json &device) {
  std::vector<KernelInfo> kernels;
  const Json &array = Reader::array(device, "kernels", "device.kernels");
  for (size_t i = 0; i < array.size(); ++i) {
    std::string where = "device.kernels[" + std::to_string(i) + "]";
    KernelInfo kernel;
    kernel.name = Reader::text(Reader::get(array[i], "name", where + ".name"), where + ".name");
    std::string shared = where + ".shared_bytes";
    kernel.sharedBytes = Reader::number(Reader::get(array[i], "shared_bytes", shared), shared);
    if (kernel.sharedBytes < 0 || kernel.sharedBytes > INT32_MAX)
      Reader::refuse(shared, "is " + std::to_string(kernel.sharedBytes));
    where += ".parameters";
    kernel.parameters = Reader::text(Reader::get(array[i], "parameters", where), where);
    if (kernel.parameters.find_first_not_of("pn") != std::string::npos)
      Reader::refuse(where, "has letters other than 'p' and 'n'");
    kernels.push_back(std::move(kernel));
  }
  return kernels;
}

/// Which inputs are in `device.host_reads`, a list of names.
static std::vector<char> readHostReads(const Json &device, const std::vector<ValueInfo> &inputs) {
  std::vector<char> reads(inputs.size(), 0);
  for (const Json &entry : Reader::array(device, "host_reads", "device.host_reads")) {
    std::string name = Reader::text(entry, "device.host_reads");
    size_t i = 0;
    while (i < inputs.size() && inputs[i].name != name)
      ++i;
    if (i == inputs.size())
      Reader::refuse("device.host_reads", "names " + inQuotes(name) + ", which is no input");
    reads[i] = 1;
  }
  return reads;
}

const KernelInfo &Manifest::checkLaunch(int64_t number, const int64_t *shape,
                                        int64_t arguments) const {
  if (number < 0 || size_t(number) >= kernels.size() ||
      size_t(arguments) != kernels[size_t(number)].parameters.size())
    fail(LOWBIT_INTERNAL, "the model launches a kernel that the manifest does not have");
  const KernelInfo &kernel = kernels[size_t(number)];
  int64_t threads = 1;
  for (int i = 0; i < 3; ++i) {
    // Along y and z a GPU has 16 bits for the number of blocks.
    int64_t most = i ? 65535 : INT32_MAX;
    threads *= shape[3 + i] < 1 || shape[3 + i] > 1024 ? 2048 : shape[3 + i];
    if (shape[i] < 0 || shape[i] > most || threads > 1024)
      fail(LOWBIT_INVALID, "kernel " + inQuotes(kernel.name) + " cannot be launched with " +
                               std::to_string(shape[i]) + " blocks of " +
                               std::to_string(shape[3 + i]) + " threads along axis " +
                               std::to_string(i));
  }
  if (shape[6] < 0 || shape[6] > kernel.sharedBytes)
    fail(LOWBIT_INTERNAL, "kernel " + inQuotes(kernel.name) + " is launched with " +
                              std::to_string(shape[6]) + " bytes of shared memory, declared are " +
                              std::to_string(kernel.sharedBytes));
  return kernel;
}

Manifest parseManifest(const std::string &text) {
  std::string error;
  std::optional<Json> root = parseJsonObject(text, error);
  if (!root)
    fail(LOWBIT_INVALID, "manifest.json: " + error);
  checkVersions(*root);

  Manifest manifest;
  manifest.target = Reader::text(Reader::get(*root, "target", "target"), "target");
  if (manifest.target != "cpu" && manifest.target != "cuda")
    fail(LOWBIT_UNSUPPORTED, "the bundle is made for target " + inQuotes(manifest.target) +
                                 ", this runtime has 'cpu' and 'cuda'");
  manifest.arch = Reader::text(Reader::get(*root, "arch", "arch"), "arch");
  for (const Json &isa : Reader::array(*root, "isa", "isa"))
    manifest.isa.push_back(Reader::text(isa, "isa"));
  if (manifest.isa.empty())
    Reader::refuse("isa", "is empty");
  const Json &files = Reader::get(*root, "files", "files");
  manifest.model = readFile(files, "model.so");
  manifest.weights = readFile(files, "weights.safetensors");
  manifest.weightsOffset =
      Reader::number(Reader::get(*root, "weights_offset", "weights_offset"), "weights_offset");
  if (manifest.weightsOffset < 64 || manifest.weightsOffset % 64 != 0 ||
      manifest.weightsOffset > manifest.weights.bytes)
    Reader::refuse("weights_offset", "is " + std::to_string(manifest.weightsOffset) +
                                         ", expected a multiple of 64 within the " +
                                         std::to_string(manifest.weights.bytes) + " bytes");
  manifest.inputs = readValues(*root, "inputs");
  manifest.outputs = readValues(*root, "outputs");
  if (manifest.target == "cuda") {
    manifest.fatbin = readFile(files, "kernels.fatbin");
    manifest.emulator = readFile(files, "emulator.so");
    const Json &device = Reader::get(*root, "device", "device");
    manifest.kernels = readKernels(device);
    manifest.deviceArch = Reader::text(Reader::get(device, "arch", "device.arch"), "device.arch");
    const Json &synchronizes = Reader::get(device, "synchronizes", "device.synchronizes");
    if (!synchronizes.is_boolean())
      Reader::refuse("device.synchronizes", "is neither true nor false");
    manifest.synchronizes = synchronizes.get<bool>();
    manifest.hostReads = readHostReads(device, manifest.inputs);
  }
  return manifest;
}

} // namespace lowbit::runtime
