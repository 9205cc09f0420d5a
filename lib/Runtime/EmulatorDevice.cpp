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
      : library(EmulatorLibrary::get()), manifest(manifest), weights(weights),
        mode(launchMode(LaunchMode::Eager)) {
    if (library.open(file.c_str(), &emulator) != LOWBIT_OK)
      fail(LOWBIT_INVALID, library.lastError());
  }
  ~EmulatorDevice() override { library.close(emulator); }
  std::unique_ptr<DeviceRun> begin(std::vector<RunTensor> inputs) override;
  bool plansRuns() const override { return mode != LaunchMode::Eager; }
  void replay(PreparedPlan &plan, const std::vector<RunTensor> &inputs,
              const std::vector<RunTensor> &results) override;
  /// Arguments that are addresses are given; the others are filled in. `seed`: the order of warps.
  void launch(int64_t number, const int64_t *shape, const int64_t *values,
              std::vector<lowbit_emu_argument> &arguments, uint64_t seed) const;

  const EmulatorLibrary &library;
  const Manifest &manifest;
  const MappedWeights &weights;
  const LaunchMode mode;
  lowbit_emulator *emulator = nullptr;
};

class EmulatorRun : public DeviceRun {
public:
  EmulatorRun(EmulatorDevice &device, std::vector<RunTensor> inputs)
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
  std::vector<RunTensor> inputs;
  EmulatedMemory memory;
  /// Each launch has an order of warps of its own; all are the same in every run.
  uint64_t launches = 0;
};

/// One replay of a plan, in an arena of its own.
class EmulatorReplay {
public:
  EmulatorReplay(const EmulatorDevice &device, const LaunchPlan &plan,
                 const std::vector<RunTensor> &inputs);
  void run();
  void fetch(const PlanAddress &from, const RunTensor &to);

private:
  lowbit_emu_argument at(const PlanAddress &address) const;
  void spoil(int64_t step);

  const EmulatorDevice &device;
  const LaunchPlan &plan;
  const std::vector<RunTensor> &inputs;
  EmulatedMemory memory;
  std::vector<char *> buffers;
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

std::unique_ptr<DeviceRun> EmulatorDevice::begin(std::vector<RunTensor> inputs) {
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
  for (const RunTensor &input : inputs) {
    auto *begin = static_cast<const char *>(input.data);
    if (at >= begin && at <= begin + input.bytes) {
      argument.bytes = uint64_t(begin + input.bytes - at);
      return argument;
    }
  }
  if (auto left = device.weights.bytesFrom(address)) {
    argument.bytes = uint64_t(*left);
    return argument;
  }
  fail(LOWBIT_INTERNAL, memory.owns(address) ? "the model hands freed device memory to a kernel"
                                             : "the model hands host memory to a kernel");
}

void EmulatorDevice::launch(int64_t number, const int64_t *shape, const int64_t *values,
                            std::vector<lowbit_emu_argument> &arguments, uint64_t seed) const {
  const KernelInfo &kernel = manifest.kernels[size_t(number)];
  lowbit_emu_launch launch = {};
  launch.size = sizeof launch;
  launch.seed = seed;
  for (int i = 0; i < 3; ++i) {
    launch.grid[i] = uint32_t(shape[i]);
    launch.block[i] = uint32_t(shape[3 + i]);
  }
  launch.shared_bytes = uint32_t(shape[6]);
  if (!launch.grid[0] || !launch.grid[1] || !launch.grid[2])
    return;
  for (size_t i = 0; i < arguments.size(); ++i)
    if (kernel.parameters[i] != 'p')
      arguments[i] = {LOWBIT_EMU_I64, 0, values[i], nullptr, 0};
  lowbit_status status = library.run(emulator, kernel.name.c_str(), &launch, arguments.data(),
                                     arguments.size());
  if (status != LOWBIT_OK)
    fail(status, std::string("in the emulator: ") + library.lastError());
}

void EmulatorRun::enqueue(int64_t number, const int64_t *shape, const int64_t *values,
                          int64_t count) {
  const KernelInfo &kernel = device.manifest.checkLaunch(number, shape, count);
  std::vector<lowbit_emu_argument> arguments;
  arguments.resize(size_t(count));
  for (size_t i = 0; i < arguments.size(); ++i)
    if (kernel.parameters[i] == 'p')
      arguments[i] = pointer(reinterpret_cast<const void *>(values[i]));
  EmulatedMemory::Access access(memory);
  device.launch(number, shape, values, arguments, ++launches);
}

EmulatorReplay::EmulatorReplay(const EmulatorDevice &device, const LaunchPlan &plan,
                               const std::vector<RunTensor> &inputs)
    : device(device), plan(plan), inputs(inputs) {
  auto *arena = static_cast<char *>(memory.allocate(plan.arenaBytes));
  for (const PlanBuffer &buffer : plan.buffers)
    buffers.push_back(buffer.output < 0 ? arena + buffer.offset
                                        : static_cast<char *>(memory.allocate(buffer.bytes)));
}

lowbit_emu_argument EmulatorReplay::at(const PlanAddress &address) const {
  const char *base = nullptr;
  switch (address.space) {
  case PlanAddress::Buffer:
    base = buffers[size_t(address.index)];
    break;
  case PlanAddress::Input:
    base = static_cast<const char *>(inputs[size_t(address.index)].data);
    break;
  case PlanAddress::Weights:
    base = static_cast<const char *>(device.weights.data());
    break;
  case PlanAddress::Constants:
    base = plan.constants.data();
    break;
  }
  base += address.offset;
  int64_t bytes = address.space == PlanAddress::Weights
                      ? device.weights.bytesFrom(base).value_or(0)
                      : plan.bytesFrom(address);
  int32_t kind = address.space == PlanAddress::Buffer ? LOWBIT_EMU_READ_WRITE : LOWBIT_EMU_READ;
  return {kind, 0, 0, const_cast<char *>(base), uint64_t(bytes)};
}

/// What a buffer holds before its first use is rubbish: also what another left behind there.
void EmulatorReplay::spoil(int64_t step) {
  for (size_t i = 0; i < plan.buffers.size(); ++i)
    if (plan.buffers[i].first == step && plan.buffers[i].last >= step)
      std::memset(buffers[i], EmulatedMemory::rubbish, size_t(plan.buffers[i].bytes));
}

void EmulatorReplay::run() {
  EmulatedMemory::Access access(memory);
  uint64_t launches = 0;
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    spoil(int64_t(i));
    const PlanStep &step = plan.steps[i];
    if (step.kernel < 0) {
      std::memcpy(at(step.addresses[0]).data, at(step.addresses[1]).data, size_t(step.bytes));
      continue;
    }
    const std::string &letters = device.manifest.kernels[size_t(step.kernel)].parameters;
    std::vector<lowbit_emu_argument> arguments(step.values.size());
    for (size_t a = 0; a < arguments.size(); ++a)
      if (letters[a] == 'p')
        arguments[a] = at(step.addresses[size_t(step.values[a])]);
    device.launch(step.kernel, step.shape, step.values.data(), arguments, ++launches);
  }
  spoil(int64_t(plan.steps.size()));
}

void EmulatorReplay::fetch(const PlanAddress &from, const RunTensor &to) {
  EmulatedMemory::Access access(memory);
  if (to.bytes > 0)
    std::memcpy(to.data, at(from).data, size_t(to.bytes));
}

void EmulatorDevice::replay(PreparedPlan &prepared, const std::vector<RunTensor> &inputs,
                            const std::vector<RunTensor> &results) {
  const LaunchPlan &plan = prepared.plan;
  EmulatorReplay replay(*this, plan, inputs);
  replay.run();
  for (size_t i = 0; i < results.size(); ++i)
    replay.fetch(plan.results[i].at, results[i]);
}

std::unique_ptr<Device> openEmulator(const std::string &path, const Manifest &manifest,
                                     const MappedWeights &weights) {
  std::string file = path + "/emulator.so";
  checkFile(file, manifest.emulator);
  return std::make_unique<EmulatorDevice>(file, manifest, weights);
}

} // namespace lowbit::runtime
