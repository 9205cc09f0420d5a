//===- EmulatorDevice.cpp - the CUDA emulator as a device ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Device.h"
#include "EmulatedMemory.h"
#include "Failure.h"

#include "lowbit-c/Emulator.h"

#include <cstring>
#include <dlfcn.h>

namespace lowbit::runtime {

Device::~Device() = default;
DeviceRun::~DeviceRun() = default;

namespace {

/// liblowbit-emulator.so, loaded once where it is wanted; nothing else needs it.
struct EmulatorLibrary {
  decltype(&lowbit_emulator_open) open;
  decltype(&lowbit_emulator_close) close;
  decltype(&lowbit_emulator_run) run;
  decltype(&lowbit_emulator_last_error) lastError;

  static const EmulatorLibrary &get();
};

/// One bundle's kernels in the emulator.
class EmulatorDevice : public Device {
public:
  EmulatorDevice(const std::string &file, const Manifest &manifest, const MappedWeights &weights)
      : library(EmulatorLibrary::get()), manifest(manifest), weights(weights) {
    if (library.open(file.c_str(), &emulator) != LOWBIT_OK)
      fail(LOWBIT_INVALID, library.lastError());
  }
  ~EmulatorDevice() override { library.close(emulator); }
  std::unique_ptr<DeviceRun> begin(std::vector<HostRange> inputs) override;

  const EmulatorLibrary &library;
  const Manifest &manifest;
  const MappedWeights &weights;
  lowbit_emulator *emulator = nullptr;
};

class EmulatorRun : public DeviceRun {
public:
  EmulatorRun(EmulatorDevice &device, std::vector<HostRange> inputs)
      : device(device), inputs(std::move(inputs)) {}
  void *allocate(int64_t bytes) override { return memory.allocate(bytes); }
  void free(void *address) override { memory.free(address); }
  void transfer(void *to, const void *from, int64_t bytes) override {
    EmulatedMemory::Access access(memory);
    for (const void *end : {const_cast<const void *>(to), from})
      if (memory.owns(end)) {
        auto buffer = memory.find(end);
        if (!buffer || static_cast<const char *>(end) + bytes > buffer->first + buffer->second)
          fail(LOWBIT_INTERNAL, "the model copies beyond the end of a device buffer");
      }
    std::memcpy(to, from, size_t(bytes));
  }
  void enqueue(int64_t kernel, const int64_t *shape, const int64_t *arguments,
               int64_t count) override;
  bool owns(const void *address) const override { return memory.owns(address); }

private:
  lowbit_emu_argument pointer(const void *address) const;

  EmulatorDevice &device;
  std::vector<HostRange> inputs;
  EmulatedMemory memory;
  /// Each launch has an order of warps of its own; all are the same in every run.
  uint64_t launches = 0;
};

} // namespace

/// Beside the file that this code is in, or in the lib folder beside that one's.
const EmulatorLibrary &EmulatorLibrary::get() {
  static const EmulatorLibrary library = [] {
    Dl_info self;
    std::string folder;
    if (dladdr(reinterpret_cast<const void *>(&openEmulator), &self) && self.dli_fname)
      folder = self.dli_fname;
    folder.resize(folder.find_last_of('/') == std::string::npos ? 0 : folder.find_last_of('/') + 1);
    void *handle = nullptr;
    std::string tried;
    for (const std::string &file : {folder + "liblowbit-emulator.so",
                                    folder + "../lib/liblowbit-emulator.so"}) {
      handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (handle)
        break;
      tried += (tried.empty() ? "" : ", ") + file;
    }
    if (!handle)
      fail(LOWBIT_UNAVAILABLE, "the emulator is not installed: there is no " + tried);
    auto symbol = [&](const char *name) {
      void *address = dlsym(handle, name);
      if (!address)
        fail(LOWBIT_UNSUPPORTED,
             std::string("liblowbit-emulator.so is of another version: it lacks ") + name);
      return address;
    };
    EmulatorLibrary result;
    result.open = reinterpret_cast<decltype(open)>(symbol("lowbit_emulator_open"));
    result.close = reinterpret_cast<decltype(close)>(symbol("lowbit_emulator_close"));
    result.run = reinterpret_cast<decltype(run)>(symbol("lowbit_emulator_run"));
    result.lastError = reinterpret_cast<decltype(lastError)>(symbol("lowbit_emulator_last_error"));
    return result;
  }();
  return library;
}

std::unique_ptr<DeviceRun> EmulatorDevice::begin(std::vector<HostRange> inputs) {
  return std::make_unique<EmulatorRun>(*this, std::move(inputs));
}

/// The buffer that a kernel may reach through an address.
lowbit_emu_argument EmulatorRun::pointer(const void *address) const {
  lowbit_emu_argument argument = {LOWBIT_EMU_READ_WRITE, 0, 0, const_cast<void *>(address), 0};
  auto *at = static_cast<const char *>(address);
  if (auto buffer = memory.find(address)) {
    argument.bytes = uint64_t(buffer->first + buffer->second - at);
    return argument;
  }
  argument.kind = LOWBIT_EMU_READ;
  for (const HostRange &input : inputs)
    if (at >= input.begin && at <= input.begin + input.bytes) {
      argument.bytes = uint64_t(input.begin + input.bytes - at);
      return argument;
    }
  if (auto left = device.weights.bytesFrom(address)) {
    argument.bytes = uint64_t(*left);
    return argument;
  }
  fail(LOWBIT_INTERNAL, memory.owns(address) ? "the model hands freed device memory to a kernel"
                                             : "the model hands host memory to a kernel");
}

void EmulatorRun::enqueue(int64_t number, const int64_t *shape, const int64_t *values,
                          int64_t count) {
  const Manifest &manifest = device.manifest;
  if (number < 0 || size_t(number) >= manifest.kernels.size() ||
      size_t(count) != manifest.kernels[size_t(number)].parameters.size())
    fail(LOWBIT_INTERNAL, "the model launches a kernel that the manifest does not have");
  const KernelInfo &kernel = manifest.kernels[size_t(number)];
  lowbit_emu_launch launch = {};
  launch.size = sizeof launch;
  launch.seed = ++launches;
  for (int i = 0; i < 3; ++i) {
    if (shape[i] < 0 || shape[i] > INT32_MAX || shape[3 + i] < 1 || shape[3 + i] > 1024)
      fail(LOWBIT_INVALID, "kernel " + inQuotes(kernel.name) + " cannot be launched with " +
                               std::to_string(shape[i]) + " blocks of " +
                               std::to_string(shape[3 + i]) + " threads along axis " +
                               std::to_string(i));
    launch.grid[i] = uint32_t(shape[i]);
    launch.block[i] = uint32_t(shape[3 + i]);
  }
  launch.shared_bytes = uint32_t(shape[6]);
  if (!launch.grid[0] || !launch.grid[1] || !launch.grid[2])
    return;
  std::vector<lowbit_emu_argument> arguments;
  for (int64_t i = 0; i < count; ++i)
    arguments.push_back(kernel.parameters[size_t(i)] == 'p'
                            ? pointer(reinterpret_cast<const void *>(values[i]))
                            : lowbit_emu_argument{LOWBIT_EMU_I64, 0, values[i], nullptr, 0});
  EmulatedMemory::Access access(memory);
  lowbit_status status = device.library.run(device.emulator, kernel.name.c_str(), &launch,
                                            arguments.data(), arguments.size());
  if (status != LOWBIT_OK)
    fail(status, std::string("in the emulator: ") + device.library.lastError());
}

std::unique_ptr<Device> openEmulator(const std::string &path, const Manifest &manifest,
                                     const MappedWeights &weights) {
  std::string file = path + "/emulator.so";
  checkFile(file, manifest.emulator);
  return std::make_unique<EmulatorDevice>(file, manifest, weights);
}

} // namespace lowbit::runtime
