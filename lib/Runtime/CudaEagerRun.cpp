//===- CudaEagerRun.cpp - one run on an NVIDIA GPU, launch by launch -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "CudaEagerRun.h"

#include "Failure.h"

#include <algorithm>
#include <cstring>

namespace lowbit::runtime::cuda {

CudaEagerRun::CudaEagerRun(CudaDevice &device, std::vector<RunTensor> tensors)
    : device(device), slot(device) {
  const CudaApi &api = driver();
  Current current(*device.context);
  if (std::any_of(tensors.begin(), tensors.end(), [](auto &tensor) { return tensor.onDevice; }))
    slot->waitForOthers();
  for (const RunTensor &tensor : tensors) {
    Input input = {tensor, deviceAddress(tensor.data)};
    if (!tensor.onDevice || input.copy % 16 != 0)
      input.copy = slot->heap.allocate(tensor.bytes);
    if (tensor.bytes > 0 && !tensor.onDevice)
      check(api.cuMemcpyHtoDAsync(input.copy, tensor.data, size_t(tensor.bytes), slot->stream),
            "sending an input to the GPU");
    else if (tensor.bytes > 0 && input.copy != deviceAddress(tensor.data))
      check(api.cuMemcpyDtoDAsync(input.copy, deviceAddress(tensor.data), size_t(tensor.bytes),
                                  slot->stream),
            "copying an input");
    inputs.push_back(input);
  }
}

CudaEagerRun::~CudaEagerRun() { slot->heap.clear(); }

void *CudaEagerRun::allocate(int64_t bytes) {
  Current current(*device.context);
  return pointerTo(slot->heap.allocate(bytes));
}

void CudaEagerRun::free(void *address) { slot->heap.free(deviceAddress(address)); }

bool CudaEagerRun::owns(const void *address) const {
  return slot->heap.owns(deviceAddress(address));
}

std::optional<CudaEagerRun::Place> CudaEagerRun::resolve(const void *address) const {
  auto [begin, bytes] = slot->heap.find(deviceAddress(address));
  if (begin)
    return Place{deviceAddress(address), int64_t(begin) + bytes - int64_t(deviceAddress(address))};
  if (owns(address))
    fail(LOWBIT_INTERNAL, "the model uses freed device memory");
  auto *at = static_cast<const char *>(address);
  for (const Input &input : inputs) {
    auto *first = static_cast<const char *>(input.tensor.data);
    if (at >= first && at <= first + input.tensor.bytes)
      return Place{input.copy + CUdeviceptr(at - first), first + input.tensor.bytes - at};
  }
  if (auto rest = device.weights.bytesFrom(address))
    return Place{device.weightsCopy.address() +
                     CUdeviceptr(at - static_cast<const char *>(device.weights.data())),
                 *rest};
  return std::nullopt;
}

CudaEagerRun::Place CudaEagerRun::resolveWithin(const void *address, int64_t bytes) const {
  std::optional<Place> place = resolve(address);
  if (!place || place->rest < bytes)
    fail(LOWBIT_INTERNAL, place ? "the model copies beyond the end of a device buffer"
                                : "the model copies between two places on the host");
  return *place;
}

void CudaEagerRun::transfer(void *to, const void *from, int64_t bytes) {
  const CudaApi &api = driver();
  Current current(*device.context);
  if (!owns(to)) {
    check(
        api.cuMemcpyDtoHAsync(to, resolveWithin(from, bytes).address, size_t(bytes), slot->stream),
        "fetching a value that the host needs");
    check(api.cuStreamSynchronize(slot->stream), "waiting for a value that the host needs");
    return;
  }
  CUdeviceptr target = resolveWithin(to, bytes).address;
  if (auto source = resolve(from))
    check(api.cuMemcpyDtoDAsync(target, resolveWithin(from, bytes).address, size_t(bytes),
                                slot->stream),
          "copying on the GPU");
  else
    // Pageable memory: the driver has its own copy when this returns.
    check(api.cuMemcpyHtoDAsync(target, from, size_t(bytes), slot->stream),
          "sending a value of the host to the GPU");
}

void CudaEagerRun::enqueue(int64_t number, const int64_t *shape, const int64_t *arguments,
                           int64_t count) {
  const KernelInfo &kernel = device.manifest.checkLaunch(number, shape, count);
  if (shape[0] == 0 || shape[1] == 0 || shape[2] == 0)
    return;
  Current current(*device.context);
  std::vector<int64_t> values(arguments, arguments + count);
  std::vector<void *> parameters;
  for (size_t i = 0; i < values.size(); ++i) {
    if (kernel.parameters[i] == 'p') {
      auto place = resolve(reinterpret_cast<const void *>(values[i]));
      if (!place)
        fail(LOWBIT_INTERNAL, "the model hands host memory to a kernel");
      values[i] = int64_t(place->address);
    }
    parameters.push_back(&values[i]);
  }
  check(driver().cuLaunchKernel(device.kernels.functions[size_t(number)], unsigned(shape[0]),
                                unsigned(shape[1]), unsigned(shape[2]), unsigned(shape[3]),
                                unsigned(shape[4]), unsigned(shape[5]), unsigned(shape[6]),
                                slot->stream, parameters.data(), nullptr),
        "launching kernel " + inQuotes(kernel.name));
}

void CudaEagerRun::copyResult(const RunTensor &to, const void *from) {
  const CudaApi &api = driver();
  Current current(*device.context);
  auto bytes = size_t(to.bytes);
  auto source = resolve(from);
  if (to.onDevice && source)
    check(api.cuMemcpyDtoDAsync(deviceAddress(to.data), source->address, bytes, slot->stream),
          "copying a result");
  else if (to.onDevice)
    check(api.cuMemcpyHtoDAsync(deviceAddress(to.data), from, bytes, slot->stream),
          "sending a result of the host to the GPU");
  else if (source)
    check(api.cuMemcpyDtoHAsync(to.data, source->address, bytes, slot->stream),
          "fetching a result from the GPU");
  else
    std::memcpy(to.data, from, bytes);
}

void CudaEagerRun::finish() {
  Current current(*device.context);
  check(driver().cuStreamSynchronize(slot->stream), "waiting for a run");
  slot.setDone();
}

} // namespace lowbit::runtime::cuda
