//===- CudaDevice.cpp - a bundle on an NVIDIA GPU -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "CudaDevice.h"

#include "CudaEagerRun.h"
#include "Failure.h"

#include <algorithm>
#include <utility>

namespace lowbit::runtime::cuda {

/// What a block can have without being asked.
static constexpr int64_t defaultSharedBytes = 48 << 10;
static constexpr int64_t maxFatbinBytes = int64_t(1) << 30;

CudaPlan::~CudaPlan() {
  guarded([&] {
    Current current(*context);
    constants.reset();
  });
}

SlotLease::SlotLease(CudaDevice &device) : device(device), slot(device.takeSlot()) {}

SlotLease::~SlotLease() {
  guarded([&] {
    Current current(*device.context);
    // After an error the stream may still be at work on the slot's memory.
    if (done)
      device.returnSlot(std::move(slot));
    slot.reset();
  });
}

CudaDevice::CudaDevice(const std::string &path, const Manifest &manifest,
                       const MappedWeights &weights, int ordinal)
    : manifest(manifest), weights(weights), mode(launchMode(LaunchMode::Graph)),
      context(std::make_shared<Context>(ordinal, manifest.deviceArch)),
      tensors(std::make_shared<TensorPool>(context)) {
  Current current(*context);
  try {
    loadKernels(path + "/kernels.fatbin");
    weightsCopy.reserve(std::max<int64_t>(weights.bytes(), 1), "weights");
    upload(weightsCopy.address(), weights.data(), weights.bytes());
  } catch (...) {
    weightsCopy.reset();
    if (library)
      driver().cuLibraryUnload(library);
    throw;
  }
}

CudaDevice::~CudaDevice() {
  guarded([&] {
    Current current(*context);
    slots.clear();
    weightsCopy.reset();
    driver().cuLibraryUnload(library);
  });
}

void CudaDevice::loadKernels(const std::string &file) {
  const CudaApi &api = driver();
  checkFile(file, manifest.fatbin);
  std::string code = readText(file, maxFatbinBytes);
  check(api.cuLibraryLoadData(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0),
        "loading the bundle's kernels, which are for " + manifest.deviceArch + ", on " +
            context->name);
  kernels.infos = &manifest.kernels;
  for (const KernelInfo &info : manifest.kernels) {
    CUkernel kernel = nullptr;
    CUfunction function = nullptr;
    std::string what = "looking up kernel " + inQuotes(info.name);
    check(api.cuLibraryGetKernel(&kernel, library, info.name.c_str()), what);
    check(api.cuKernelGetFunction(&function, kernel), what);
    if (info.sharedBytes > context->sharedBytes)
      fail(LOWBIT_UNSUPPORTED, "kernel " + inQuotes(info.name) + " needs " +
                                   std::to_string(info.sharedBytes) +
                                   " bytes of shared memory, a block on " + context->name +
                                   " has " + std::to_string(context->sharedBytes));
    if (info.sharedBytes > defaultSharedBytes)
      check(api.cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                   int(info.sharedBytes)),
            "reserving shared memory for kernel " + inQuotes(info.name));
    kernels.functions.push_back(function);
  }
}

std::unique_ptr<DeviceRun> CudaDevice::begin(std::vector<RunTensor> inputs) {
  return std::make_unique<CudaEagerRun>(*this, std::move(inputs));
}

std::shared_ptr<PreparedPlan> CudaDevice::prepare(LaunchPlan plan) {
  Current current(*context);
  auto prepared = std::make_shared<CudaPlan>(std::move(plan), context);
  const std::vector<char> &constants = prepared->plan.constants;
  if (!constants.empty()) {
    prepared->constants.reserve(int64_t(constants.size()), "a plan's constants");
    upload(prepared->constants.address(), constants.data(), int64_t(constants.size()));
  }
  return prepared;
}

void CudaDevice::replay(PreparedPlan &plan, const std::vector<RunTensor> &inputs,
                        const std::vector<RunTensor> &results) {
  SlotLease slot(*this);
  Current current(*context);
  slot->replay(static_cast<CudaPlan &>(plan), inputs, results);
  slot.setDone();
}

double CudaDevice::time(PreparedPlan &plan, const std::vector<RunTensor> &inputs,
                        int64_t repetitions) {
  SlotLease slot(*this);
  Current current(*context);
  double milliseconds = slot->time(static_cast<CudaPlan &>(plan), inputs, repetitions);
  slot.setDone();
  return milliseconds;
}

void CudaDevice::read(const RunTensor &tensor, void *host) {
  if (tensor.bytes > 0)
    tensors->read(tensor.data, host, tensor.bytes);
}

void CudaDevice::checkTensor(const RunTensor &tensor, const std::string &what) const {
  if (tensor.bytes == 0)
    return;
  Current current(*context);
  int ordinal = -1;
  if (driver().cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                     deviceAddress(tensor.data)) != CUDA_SUCCESS)
    fail(LOWBIT_INVALID, what + " is said to be on a GPU, and is not");
  if (ordinal != context->ordinal)
    fail(LOWBIT_INVALID, what + " is on cuda:" + std::to_string(ordinal) +
                             ", this bundle is on cuda:" + std::to_string(context->ordinal));
}

void *CudaDevice::allocateTensor(int64_t bytes) {
  CUdeviceptr address = tensors->allocate(bytes);
  try {
    addDeviceTensor(pointerTo(address), bytes, tensors);
  } catch (const std::bad_alloc &) {
    tensors->release(pointerTo(address), bytes);
    throw;
  }
  return pointerTo(address);
}

std::unique_ptr<Slot> CudaDevice::takeSlot() {
  {
    std::lock_guard<std::mutex> lock(slotsMutex);
    if (!slots.empty()) {
      std::unique_ptr<Slot> slot = std::move(slots.back());
      slots.pop_back();
      return slot;
    }
  }
  Current current(*context);
  return std::make_unique<Slot>(*this);
}

void CudaDevice::returnSlot(std::unique_ptr<Slot> slot) noexcept {
  std::lock_guard<std::mutex> lock(slotsMutex);
  try {
    slots.push_back(std::move(slot));
  } catch (const std::bad_alloc &) {
    // It is not kept, that is all.
  }
}

} // namespace lowbit::runtime::cuda

namespace lowbit::runtime {

std::unique_ptr<Device> openCuda(const std::string &path, const Manifest &manifest,
                                 const MappedWeights &weights, int ordinal) {
  return std::make_unique<cuda::CudaDevice>(path, manifest, weights, ordinal);
}

} // namespace lowbit::runtime
