//===- CudaSlot.cpp - one run at a time of a bundle on an NVIDIA GPU -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "CudaDevice.h"

#include "Failure.h"
#include "PlanCache.h"

#include <algorithm>
#include <cstring>

namespace lowbit::runtime::cuda {

Slot::Slot(CudaDevice &device) : device(device) {
  check(driver().cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "making a stream");
  if (CUresult result = driver().cuEventCreate(&event, CU_EVENT_DISABLE_TIMING)) {
    driver().cuStreamDestroy(stream);
    check(result, "making an event");
  }
}

Slot::~Slot() {
  driver().cuStreamSynchronize(stream);
  graphs.clear();
  driver().cuEventDestroy(event);
  driver().cuStreamDestroy(stream);
}

void Slot::waitForOthers() {
  check(driver().cuEventRecord(event, legacyStream()), "waiting for a tensor on the GPU");
  check(driver().cuStreamWaitEvent(stream, event, 0), "waiting for a tensor on the GPU");
}

/// Kernels read and write 16 bytes at once.
static bool isAligned(const void *address) { return deviceAddress(address) % 16 == 0; }

static bool overlaps(const RunTensor &a, const RunTensor &b) {
  return a.bytes > 0 && b.bytes > 0 &&
         deviceAddress(a.data) < deviceAddress(b.data) + CUdeviceptr(b.bytes) &&
         deviceAddress(b.data) < deviceAddress(a.data) + CUdeviceptr(a.bytes);
}

/// Whether the kernels may write a result where the caller wants it: not where an input is, too.
static bool isInPlace(const RunTensor &result, const std::vector<RunTensor> &inputs) {
  return result.onDevice && result.bytes > 0 && isAligned(result.data) &&
         std::none_of(inputs.begin(), inputs.end(), [&](const RunTensor &input) {
           return input.onDevice && overlaps(input, result);
         });
}

/// The arena, then room for every input and result: it has an address also where a caller lends
/// memory instead, so that graphs stay as they are.
Addresses Slot::place(const CudaPlan &plan, const std::vector<RunTensor> &inputs,
                      const std::vector<RunTensor> &results) {
  int64_t total = aligned(plan.plan.arenaBytes);
  auto take = [&](int64_t bytes) {
    int64_t offset = total;
    total += aligned(bytes);
    return offset;
  };
  Addresses addresses = {};
  for (const RunTensor &input : inputs)
    addresses.inputs.push_back(CUdeviceptr(take(input.bytes)));
  for (const RunTensor &result : results)
    addresses.outputs.push_back(CUdeviceptr(take(result.bytes)));
  // A graph has the addresses of the memory that it was made with.
  if (total > memory.bytes())
    graphs.clear();
  memory.reserve(std::max<int64_t>(total, 1), "a run");
  for (auto *list : {&addresses.inputs, &addresses.outputs})
    for (CUdeviceptr &address : *list)
      address += memory.address();
  addresses.arena = memory.address();
  addresses.weights = device.weightsCopy.address();
  addresses.constants = plan.constants.address();
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].onDevice && inputs[i].bytes > 0 && isAligned(inputs[i].data))
      addresses.inputs[i] = deviceAddress(inputs[i].data);
  for (size_t i = 0; i < results.size(); ++i) {
    bool shared =
        std::any_of(results.begin(), results.begin() + ptrdiff_t(i), [&](const RunTensor &other) {
          return other.onDevice && overlaps(other, results[i]);
        });
    if (isInPlace(results[i], inputs) && !shared)
      addresses.outputs[i] = deviceAddress(results[i].data);
  }
  return addresses;
}

PlanGraph &Slot::graphFor(CudaPlan &plan, const Addresses &addresses) {
  auto found = std::find_if(graphs.begin(), graphs.end(),
                            [&](const Entry &entry) { return entry.plan.get() == &plan; });
  if (found != graphs.end()) {
    graphs.splice(graphs.begin(), graphs, found);
    graphs.front().graph->move(addresses);
    return *graphs.front().graph;
  }
  if (graphs.size() >= PlanCache::capacity)
    graphs.pop_back();
  auto graph = std::make_unique<PlanGraph>(device.kernels, plan.plan, *device.context, addresses);
  graphs.push_front({plan.shared_from_this(), std::move(graph)});
  return *graphs.front().graph;
}

static bool isLent(const RunTensor &tensor) { return tensor.onDevice; }

static int64_t hostBytes(const std::vector<RunTensor> &tensors) {
  int64_t bytes = 0;
  for (const RunTensor &tensor : tensors)
    bytes += tensor.onDevice ? 0 : aligned(tensor.bytes);
  return bytes;
}

char *Slot::send(const Addresses &addresses, const std::vector<RunTensor> &inputs,
                 int64_t resultBytes) {
  const CudaApi &api = driver();
  if (std::any_of(inputs.begin(), inputs.end(), isLent))
    waitForOthers();
  pinned.reserve(hostBytes(inputs) + resultBytes);
  char *staging = pinned.data();
  for (size_t i = 0; i < inputs.size(); ++i) {
    const RunTensor &input = inputs[i];
    if (input.bytes == 0 || (input.onDevice && addresses.inputs[i] == deviceAddress(input.data)))
      continue;
    if (input.onDevice) {
      check(api.cuMemcpyDtoDAsync(addresses.inputs[i], deviceAddress(input.data),
                                  size_t(input.bytes), stream),
            "copying an input");
      continue;
    }
    std::memcpy(staging, input.data, size_t(input.bytes));
    check(api.cuMemcpyHtoDAsync(addresses.inputs[i], staging, size_t(input.bytes), stream),
          "sending an input to the GPU");
    staging += aligned(input.bytes);
  }
  return staging;
}

void Slot::replay(CudaPlan &plan, const std::vector<RunTensor> &inputs,
                  const std::vector<RunTensor> &results) {
  const CudaApi &api = driver();
  Addresses addresses = place(plan, inputs, results);
  if (std::any_of(results.begin(), results.end(), isLent))
    waitForOthers();
  char *staging = send(addresses, inputs, hostBytes(results));

  // A plan for values that the host reads may be for this run alone.
  bool forOnce = plan.replays.fetch_add(1) == 0 &&
                 std::count(device.manifest.hostReads.begin(), device.manifest.hostReads.end(), 1);
  if (device.mode == LaunchMode::Graph && !forOnce && !plan.plan.steps.empty())
    graphFor(plan, addresses).launch(stream);
  else
    launch(device.kernels, plan.plan, addresses, stream);

  std::vector<char *> staged(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    const RunTensor &result = results[i];
    CUdeviceptr from = addresses.of(plan.plan, plan.plan.results[i].at);
    if (result.bytes == 0 || (result.onDevice && from == deviceAddress(result.data)))
      continue;
    if (result.onDevice) {
      check(api.cuMemcpyDtoDAsync(deviceAddress(result.data), from, size_t(result.bytes), stream),
            "copying a result");
      continue;
    }
    staged[i] = staging;
    check(api.cuMemcpyDtoHAsync(staging, from, size_t(result.bytes), stream),
          "fetching a result from the GPU");
    staging += aligned(result.bytes);
  }
  check(api.cuStreamSynchronize(stream), "waiting for a run");
  for (size_t i = 0; i < results.size(); ++i)
    if (staged[i])
      std::memcpy(results[i].data, staged[i], size_t(results[i].bytes));
}

namespace {
struct TimedEvent {
  TimedEvent() { check(driver().cuEventCreate(&event, CU_EVENT_DEFAULT), "making an event"); }
  ~TimedEvent() { driver().cuEventDestroy(event); }
  CUevent event = nullptr;
};
} // namespace

double Slot::time(CudaPlan &plan, const std::vector<RunTensor> &inputs, int64_t repetitions) {
  const CudaApi &api = driver();
  std::vector<RunTensor> results;
  for (const LaunchPlan::Result &result : plan.plan.results)
    results.push_back({nullptr, result.bytes, false});
  Addresses addresses = place(plan, inputs, results);
  send(addresses, inputs, 0);
  TimedEvent begin, end;
  auto run = [&] {
    if (device.mode == LaunchMode::Graph && !plan.plan.steps.empty())
      graphFor(plan, addresses).launch(stream);
    else
      launch(device.kernels, plan.plan, addresses, stream);
  };
  run();
  check(api.cuEventRecord(begin.event, stream), "timing runs");
  for (int64_t i = 0; i < repetitions; ++i)
    run();
  check(api.cuEventRecord(end.event, stream), "timing runs");
  check(api.cuStreamSynchronize(stream), "timing runs");
  float milliseconds = 0;
  check(api.cuEventElapsedTime(&milliseconds, begin.event, end.event), "timing runs");
  return double(milliseconds) / double(repetitions);
}

} // namespace lowbit::runtime::cuda
