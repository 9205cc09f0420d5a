//===- Bundle.cpp - an open bundle, and the C functions ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Bundle.h"

#include "DeviceTensors.h"
#include "Failure.h"
#include "Processor.h"
#include "Tensor.h"

#include <cstddef>
#include <cstring>

using namespace lowbit::runtime;

namespace lowbit::runtime {

static constexpr int64_t maxManifestBytes = int64_t(64) << 20;
static constexpr int maxThreads = 1024;

ValueTable::ValueTable(const std::vector<ValueInfo> &values) {
  symbols.reserve(values.size());
  for (const ValueInfo &value : values) {
    std::vector<const char *> names;
    for (const std::string &symbol : value.symbols)
      names.push_back(symbol.c_str());
    symbols.push_back(std::move(names));
    infos.push_back({value.name.c_str(), value.dtype, int32_t(value.dims.size()), value.dims.data(),
                     symbols.back().data()});
  }
}

} // namespace lowbit::runtime

/// The number after "cuda:"; 0 where there is none.
static int ordinalOf(const std::string &device) {
  size_t colon = device.find(':');
  std::string digits = colon == std::string::npos ? "0" : device.substr(colon + 1);
  if (digits.empty() || digits.size() > 4 ||
      digits.find_first_not_of("0123456789") != std::string::npos)
    fail(LOWBIT_INVALID, "unknown device " + inQuotes(device) + ", expected cpu, cuda:0 or emulator");
  return std::stoi(digits);
}

/// The device called `name`, the target's own where there is no name; null for the CPU.
static std::unique_ptr<Device> openDevice(const std::string &path, const Manifest &manifest,
                                          const MappedWeights &weights, const char *name) {
  std::string device = name ? name : manifest.target == "cpu" ? "cpu" : "cuda:0";
  std::string kind = device.substr(0, device.find(':'));
  if (kind != "cpu" && kind != "cuda" && device != "emulator")
    fail(LOWBIT_INVALID, "unknown device " + inQuotes(device) + ", expected cpu, cuda:0 or emulator");
  if ((kind == "cpu") != (manifest.target == "cpu"))
    fail(LOWBIT_INVALID, "the bundle is made for target " + inQuotes(manifest.target) +
                             " and cannot run on device " + inQuotes(device));
  if (kind == "cpu")
    return nullptr;
  if (kind == "cuda")
    return openCuda(path, manifest, weights, ordinalOf(device));
  return openEmulator(path, manifest, weights);
}

lowbit_bundle::lowbit_bundle(const std::string &path, int threads, const char *forcedIsa,
                             const char *deviceName)
    : text(readText(path + "/manifest.json", maxManifestBytes)), manifest(parseManifest(text)),
      inputs(manifest.inputs), outputs(manifest.outputs),
      isa(chooseIsa(manifest.arch, manifest.isa, forcedIsa)), pool(threads), initialization(pool) {
  weights.open(path + "/weights.safetensors", manifest.weights, manifest.weightsOffset);
  device = openDevice(path, manifest, weights, deviceName);
  model.open(path + "/model.so", manifest.model);
  callModel(
      initialization,
      [](void *argument) {
        auto &bundle = *static_cast<lowbit_bundle *>(argument);
        bundle.model.init(&callbacks(), bundle.weights.data(), int64_t(bundle.isa));
      },
      this);
  if (initialization.failure != LOWBIT_OK)
    fail(initialization.failure,
         std::string("the model cannot be initialized: ") + initialization.message);
}

std::unique_ptr<RunContext> lowbit_bundle::takeContext() {
  {
    std::lock_guard<std::mutex> lock(contextsMutex);
    if (!contexts.empty()) {
      std::unique_ptr<RunContext> context = std::move(contexts.back());
      contexts.pop_back();
      return context;
    }
  }
  return std::make_unique<RunContext>(pool);
}

void lowbit_bundle::returnContext(std::unique_ptr<RunContext> context) noexcept {
  context->endRun();
  std::lock_guard<std::mutex> lock(contextsMutex);
  try {
    contexts.push_back(std::move(context));
  } catch (const std::bad_alloc &) {
    // It is not kept, that is all.
  }
}

extern "C" {

uint32_t lowbit_runtime_version(void) { return LOWBIT_RUNTIME_VERSION; }

lowbit_status lowbit_bundle_open(const char *path, const lowbit_open_options *options,
                                 lowbit_bundle **out) {
  return guarded([&] {
    if (!out)
      fail(LOWBIT_INVALID, "lowbit_bundle_open: out is NULL");
    *out = nullptr;
    if (!path)
      fail(LOWBIT_INVALID, "lowbit_bundle_open: path is NULL");
    // Before devices there were fewer options.
    constexpr uint32_t withoutDevice = offsetof(lowbit_open_options, device);
    if (options && options->size != sizeof(lowbit_open_options) && options->size != withoutDevice)
      fail(LOWBIT_UNSUPPORTED, "lowbit_bundle_open: options have " + std::to_string(options->size) +
                                   " bytes, this runtime knows options of " +
                                   std::to_string(sizeof(lowbit_open_options)));
    int threads = options ? options->threads : 0;
    if (threads < 0 || threads > maxThreads)
      fail(LOWBIT_INVALID, "lowbit_bundle_open: threads is " + std::to_string(threads) +
                               ", expected 0 to " + std::to_string(maxThreads));
    if (threads == 0)
      threads = std::min(availableProcessors(), maxThreads);
    bool named = options && options->size > withoutDevice;
    *out = new lowbit_bundle(path, threads, options ? options->isa : nullptr,
                             named ? options->device : nullptr);
  });
}

void lowbit_bundle_close(lowbit_bundle *bundle) { delete bundle; }

size_t lowbit_dtype_size(int32_t dtype) { return size_t(lowbit::runtime::elementSize(dtype)); }

size_t lowbit_bundle_num_inputs(const lowbit_bundle *bundle) {
  return bundle ? bundle->inputs.size() : 0;
}
size_t lowbit_bundle_num_outputs(const lowbit_bundle *bundle) {
  return bundle ? bundle->outputs.size() : 0;
}
const lowbit_value_info *lowbit_bundle_input(const lowbit_bundle *bundle, size_t index) {
  return bundle ? bundle->inputs.at(index) : nullptr;
}
const lowbit_value_info *lowbit_bundle_output(const lowbit_bundle *bundle, size_t index) {
  return bundle ? bundle->outputs.at(index) : nullptr;
}
const char *lowbit_bundle_manifest(const lowbit_bundle *bundle) {
  return bundle ? bundle->text.c_str() : "";
}
const char *lowbit_bundle_isa(const lowbit_bundle *bundle) {
  return bundle ? bundle->manifest.isa[bundle->isa].c_str() : "";
}

lowbit_status lowbit_bundle_set_observer(lowbit_bundle *bundle, lowbit_observer observer,
                                         void *user) {
  return guarded([&] {
    if (!bundle)
      fail(LOWBIT_INVALID, "lowbit_bundle_set_observer: bundle is NULL");
    bundle->observer = observer;
    bundle->observerUser = user;
  });
}

lowbit_status lowbit_bundle_set_exchange(lowbit_bundle *bundle, lowbit_exchange exchange,
                                         void *user) {
  return guarded([&] {
    if (!bundle)
      fail(LOWBIT_INVALID, "lowbit_bundle_set_exchange: bundle is NULL");
    bundle->exchange = exchange;
    bundle->exchangeUser = user;
  });
}

lowbit_status lowbit_bundle_run(lowbit_bundle *bundle, const lowbit_tensor *inputs,
                                size_t num_inputs, lowbit_tensor *outputs, size_t num_outputs) {
  return guarded([&] {
    if (!bundle || (!inputs && num_inputs) || (!outputs && num_outputs))
      fail(LOWBIT_INVALID, "lowbit_bundle_run: a pointer is NULL");
    // Also on failure no output is owned whose memory was to be allocated.
    for (size_t i = 0; i < num_outputs; ++i)
      if (!outputs[i].data)
        outputs[i].owned = 0;
    runBundle(*bundle, inputs, num_inputs, outputs, num_outputs);
  });
}

lowbit_status lowbit_bundle_plan(lowbit_bundle *bundle, lowbit_plan_info *info) {
  return guarded([&] {
    if (!bundle || !info)
      fail(LOWBIT_INVALID, "lowbit_bundle_plan: a pointer is NULL");
    if (info->size != sizeof *info)
      fail(LOWBIT_UNSUPPORTED, "lowbit_bundle_plan: info has " + std::to_string(info->size) +
                                   " bytes, this runtime knows " + std::to_string(sizeof *info));
    std::shared_ptr<PreparedPlan> latest = bundle->plans.latest();
    if (!latest)
      fail(LOWBIT_UNAVAILABLE, "no run of this bundle was planned");
    info->steps = int64_t(latest->plan.steps.size());
    info->arena_bytes = latest->plan.arenaBytes;
    info->buffer_bytes = latest->plan.totalBytes;
  });
}

lowbit_status lowbit_bundle_time(lowbit_bundle *bundle, const lowbit_tensor *inputs,
                                 size_t num_inputs, int64_t repetitions, double *milliseconds) {
  return guarded([&] {
    if (!bundle || (!inputs && num_inputs) || !milliseconds)
      fail(LOWBIT_INVALID, "lowbit_bundle_time: a pointer is NULL");
    if (repetitions < 1)
      fail(LOWBIT_INVALID, "lowbit_bundle_time: repetitions is " + std::to_string(repetitions) +
                               ", expected at least 1");
    *milliseconds = timeBundle(*bundle, inputs, num_inputs, repetitions);
  });
}

lowbit_status lowbit_tensor_read(const lowbit_tensor *tensor, void *data, size_t bytes) {
  return guarded([&] {
    if (!tensor || (!data && bytes))
      fail(LOWBIT_INVALID, "lowbit_tensor_read: a pointer is NULL");
    if (tensor->device != LOWBIT_CUDA || bytes > size_t(INT64_MAX))
      fail(LOWBIT_INVALID, "lowbit_tensor_read: the tensor is not on a GPU");
    if (bytes)
      readDeviceTensor(tensor->data, data, int64_t(bytes));
  });
}

void lowbit_tensor_release(lowbit_tensor *tensor) {
  if (!tensor || !tensor->owned)
    return;
  if (tensor->device == LOWBIT_CUDA)
    releaseDeviceTensor(tensor->data);
  else
    RunMemory::release(tensor->data);
  tensor->data = nullptr;
  tensor->owned = 0;
}

} // extern "C"
