//===- PlanRecorder.cpp - makes a launch plan of the calls of a model -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "PlanRecorder.h"

#include "ArenaLayout.h"
#include "Failure.h"

#include <algorithm>
#include <utility>

namespace lowbit::runtime {

void *PlanRecorder::addInput(const void *host, int64_t bytes) {
  int64_t number = int64_t(plan.inputBytes.size());
  plan.inputBytes.push_back(bytes);
  hostInputs.push_back({static_cast<const char *>(host), bytes});
  if (host)
    return const_cast<void *>(host);
  void *address = space.add(bytes);
  owners.push_back({-1, number});
  return address;
}

void *PlanRecorder::allocate(int64_t bytes) {
  void *address = space.add(bytes);
  owners.push_back({int64_t(plan.buffers.size()), -1});
  plan.buffers.push_back({bytes, 0, -1, 0, -1});
  return address;
}

void PlanRecorder::free(void *address) {
  auto place = space.find(address);
  if (!place || place->offset != 0 || owners[size_t(place->number)].input >= 0 ||
      std::exchange(owners[size_t(place->number)].freed, true))
    fail(LOWBIT_INTERNAL, "the model frees device memory that it does not have");
}

std::optional<PlanAddress> PlanRecorder::resolve(const void *address) const {
  if (auto place = space.find(address)) {
    const Owner &owner = owners[size_t(place->number)];
    if (owner.freed)
      fail(LOWBIT_INTERNAL, "the model uses freed device memory");
    return owner.input >= 0 ? PlanAddress{PlanAddress::Input, owner.input, place->offset}
                            : PlanAddress{PlanAddress::Buffer, owner.buffer, place->offset};
  }
  auto *at = static_cast<const char *>(address);
  for (size_t i = 0; i < hostInputs.size(); ++i)
    if (auto [begin, bytes] = hostInputs[i]; begin && at >= begin && at <= begin + bytes)
      return PlanAddress{PlanAddress::Input, int64_t(i), at - begin};
  auto *first = static_cast<const char *>(weights.data());
  if (weights.bytesFrom(address))
    return PlanAddress{PlanAddress::Weights, 0, at - first};
  return std::nullopt;
}

/// The step that is being written uses the memory at `address`.
void PlanRecorder::touch(const PlanAddress &address) {
  if (address.space != PlanAddress::Buffer)
    return;
  PlanBuffer &buffer = plan.buffers[size_t(address.index)];
  int64_t step = int64_t(plan.steps.size());
  if (buffer.first > buffer.last)
    buffer.first = step;
  buffer.last = step;
}

PlanAddress PlanRecorder::addConstant(const void *data, int64_t bytes) {
  size_t offset = (plan.constants.size() + arenaAlignment - 1) / arenaAlignment * arenaAlignment;
  plan.constants.resize(offset + size_t(bytes));
  std::copy_n(static_cast<const char *>(data), bytes, plan.constants.begin() + ptrdiff_t(offset));
  return {PlanAddress::Constants, 0, int64_t(offset)};
}

void PlanRecorder::transfer(void *to, const void *from, int64_t bytes) {
  std::optional<PlanAddress> target = resolve(to);
  if (!target || target->space != PlanAddress::Buffer)
    fail(LOWBIT_INTERNAL, target ? "the model copies into an input or a weight"
                                 : "the host waits for the device, which the bundle's manifest "
                                   "does not say");
  std::optional<PlanAddress> source = resolve(from);
  auto check = [&](const PlanAddress &address) {
    int64_t rest = address.space == PlanAddress::Weights ? weights.bytesFrom(from).value_or(0)
                                                         : plan.bytesFrom(address);
    if (bytes > rest)
      fail(LOWBIT_INTERNAL, "the model copies beyond the end of a device buffer");
  };
  // Before host memory of that size is read.
  check(*target);
  if (source)
    check(*source);
  PlanStep step;
  step.bytes = bytes;
  step.addresses = {*target, source ? *source : addConstant(from, bytes)};
  for (const PlanAddress &address : step.addresses)
    touch(address);
  plan.steps.push_back(std::move(step));
}

void PlanRecorder::enqueue(int64_t number, const int64_t *shape, const int64_t *arguments,
                           int64_t count) {
  const KernelInfo &kernel = manifest.checkLaunch(number, shape, count);
  if (shape[0] == 0 || shape[1] == 0 || shape[2] == 0)
    return;
  PlanStep step;
  step.kernel = number;
  std::copy_n(shape, 7, step.shape);
  for (int64_t i = 0; i < count; ++i) {
    if (kernel.parameters[size_t(i)] != 'p') {
      step.values.push_back(arguments[i]);
      continue;
    }
    auto address = resolve(reinterpret_cast<const void *>(arguments[i]));
    if (!address)
      fail(LOWBIT_INTERNAL, "the model hands host memory to a kernel");
    touch(*address);
    step.values.push_back(int64_t(step.addresses.size()));
    step.addresses.push_back(*address);
  }
  plan.steps.push_back(std::move(step));
}

LaunchPlan PlanRecorder::makePlan(const std::vector<ReturnedBuffer> &results) {
  auto end = int64_t(plan.steps.size());
  std::vector<int64_t> timesReturned(plan.buffers.size(), 0);
  for (const ReturnedBuffer &result : results) {
    auto at = resolve(result.data);
    if (at && !result.isRowMajor)
      fail(LOWBIT_INTERNAL, "the model returned a result on the device that is not row-major");
    plan.results.push_back(
        {at ? *at : addConstant(result.data, result.bytes), result.shape, result.bytes});
    if (!at || at->space != PlanAddress::Buffer)
      continue;
    if (plan.bytesFrom(*at) < result.bytes)
      fail(LOWBIT_INTERNAL, "the model returned a result larger than its buffer");
    PlanBuffer &buffer = plan.buffers[size_t(at->index)];
    if (buffer.first > buffer.last)
      buffer.first = end;
    buffer.last = end;
    ++timesReturned[size_t(at->index)];
  }
  for (size_t i = 0; i < plan.results.size(); ++i) {
    const LaunchPlan::Result &result = plan.results[i];
    if (result.at.space != PlanAddress::Buffer || result.at.offset != 0)
      continue;
    PlanBuffer &buffer = plan.buffers[size_t(result.at.index)];
    if (timesReturned[size_t(result.at.index)] == 1 && buffer.bytes == result.bytes)
      buffer.output = int64_t(i);
  }
  plan.layOutBuffers();
  return std::move(plan);
}

} // namespace lowbit::runtime
