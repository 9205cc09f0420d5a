//===- RunOnDevice.cpp - one run on a device, from a plan or launch by launch -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Call.h"
#include "Destinations.h"
#include "Failure.h"
#include "PlanRecorder.h"
#include "Tensor.h"

#include <algorithm>
#include <cstring>

namespace lowbit::runtime {

static std::string inputName(const Manifest &manifest, size_t i) {
  return "input " + inQuotes(manifest.inputs[i].name);
}

/// All inputs; those that the host reads are on the host.
static std::vector<RunTensor> denseInputs(lowbit_bundle &bundle, const lowbit_tensor *inputs,
                                          RunContext &context) {
  std::vector<RunTensor> dense;
  for (size_t i = 0; i < bundle.manifest.inputs.size(); ++i) {
    RunTensor input =
        denseInput(inputs[i], inputName(bundle.manifest, i), bundle.device.get(), context);
    if (input.onDevice && bundle.manifest.hostReads[i]) {
      void *copy = context.memory.allocate(input.bytes, 64);
      if (!copy)
        fail(LOWBIT_NO_MEMORY, "out of memory for a copy of an input");
      bundle.device->read(input, copy);
      input = {copy, input.bytes, false};
    }
    dense.push_back(input);
  }
  return dense;
}

/// What a plan is for: all shapes, and the values that the host reads.
static std::string planKey(const Manifest &manifest, const lowbit_tensor *inputs,
                           const std::vector<RunTensor> &dense) {
  std::string key;
  for (size_t i = 0; i < dense.size(); ++i) {
    key.append(reinterpret_cast<const char *>(inputs[i].shape),
               size_t(inputs[i].rank) * sizeof(int64_t));
    if (manifest.hostReads[i] && dense[i].bytes > 0)
      key.append(static_cast<const char *>(dense[i].data), size_t(dense[i].bytes));
  }
  return key;
}

static LaunchPlan record(lowbit_bundle &bundle, const lowbit_tensor *inputs,
                         const std::vector<RunTensor> &dense, Symbols &symbols) {
  ContextLease context(bundle);
  auto recorder = std::make_unique<PlanRecorder>(bundle.manifest, bundle.weights);
  PlanRecorder &plan = *recorder;
  Call call(bundle);
  for (size_t i = 0; i < dense.size(); ++i) {
    bool read = bundle.manifest.hostReads[i];
    call.addInput(plan.addInput(read ? dense[i].data : nullptr, dense[i].bytes), inputs[i]);
  }
  context->device = std::move(recorder);
  call.run(*context);
  std::vector<ReturnedBuffer> returned;
  std::vector<Result> results = call.results(symbols);
  // Results that the host computed may be strided.
  std::vector<std::vector<char>> copies(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    const Result &r = results[i];
    ReturnedBuffer buffer = {r.allocated,
                             r.data,
                             {r.shape, r.shape + r.rank},
                             r.bytes,
                             isRowMajor(r.shape, r.strides, r.rank)};
    if (!buffer.isRowMajor && !plan.owns(r.data)) {
      copies[i].resize(size_t(r.bytes));
      int64_t strides[LOWBIT_MAX_RANK];
      setRowMajor(r.shape, r.rank, strides);
      copyStrided(r.data, r.strides, copies[i].data(), strides, r.shape, r.rank, r.elementSize);
      buffer.data = copies[i].data();
    }
    returned.push_back(std::move(buffer));
  }
  return plan.makePlan(returned);
}

/// A plan for these inputs, made where there is none yet.
static std::shared_ptr<PreparedPlan> planFor(lowbit_bundle &bundle, const lowbit_tensor *inputs,
                                             const std::vector<RunTensor> &dense,
                                             Symbols &symbols) {
  std::string key = planKey(bundle.manifest, inputs, dense);
  std::shared_ptr<PreparedPlan> prepared = bundle.plans.find(key);
  if (!prepared) {
    prepared = bundle.device->prepare(record(bundle, inputs, dense, symbols));
    bundle.plans.insert(key, prepared);
  }
  return prepared;
}

static void runPlanned(lowbit_bundle &bundle, const lowbit_tensor *inputs, Symbols &symbols,
                       lowbit_tensor *outputs) {
  ContextLease context(bundle);
  std::vector<RunTensor> dense = denseInputs(bundle, inputs, *context);
  std::shared_ptr<PreparedPlan> prepared = planFor(bundle, inputs, dense, symbols);
  Destinations results(*bundle.device, bundle.manifest, outputs);
  for (const LaunchPlan::Result &result : prepared->plan.results)
    results.add(result.shape, result.bytes);
  bundle.device->replay(*prepared, dense, results.tensors());
  results.commit();
}

/// A result of an eager run goes to `to`.
static void fetch(const Result &result, const RunTensor &to, RunContext &context) {
  if (result.bytes == 0)
    return;
  const void *from = result.data;
  if (!isRowMajor(result.shape, result.strides, result.rank)) {
    if (context.device->owns(result.data))
      fail(LOWBIT_INTERNAL, "the model returned a result on the device that is not row-major");
    void *copy = context.memory.allocate(result.bytes, 64);
    if (!copy)
      fail(LOWBIT_NO_MEMORY, "out of memory for a result");
    int64_t strides[LOWBIT_MAX_RANK];
    setRowMajor(result.shape, result.rank, strides);
    copyStrided(result.data, result.strides, copy, strides, result.shape, result.rank,
                result.elementSize);
    from = copy;
  }
  context.device->copyResult(to, from);
}

double timeBundle(lowbit_bundle &bundle, const lowbit_tensor *inputs, size_t numInputs,
                  int64_t repetitions) {
  const Manifest &manifest = bundle.manifest;
  if (numInputs != manifest.inputs.size())
    fail(LOWBIT_INVALID, "the bundle has " + std::to_string(manifest.inputs.size()) +
                             " inputs, given were " + std::to_string(numInputs));
  if (!bundle.device || !bundle.device->plansRuns() || manifest.synchronizes)
    fail(LOWBIT_UNAVAILABLE, "runs of this bundle are not planned and cannot be timed on a GPU");
  Symbols symbols;
  for (size_t i = 0; i < numInputs; ++i)
    checkInput(inputs[i], manifest.inputs[i], inputName(manifest, i), symbols);
  ContextLease context(bundle);
  std::vector<RunTensor> dense = denseInputs(bundle, inputs, *context);
  return bundle.device->time(*planFor(bundle, inputs, dense, symbols), dense, repetitions);
}

void runOnDevice(lowbit_bundle &bundle, const lowbit_tensor *inputs, Symbols &symbols,
                 lowbit_tensor *outputs) {
  if (bundle.device->plansRuns() && !bundle.manifest.synchronizes)
    return runPlanned(bundle, inputs, symbols, outputs);
  ContextLease context(bundle);
  std::vector<RunTensor> dense = denseInputs(bundle, inputs, *context);
  Call call(bundle);
  for (size_t i = 0; i < dense.size(); ++i)
    call.addInput(dense[i].data, inputs[i]);
  context->device = bundle.device->begin(dense);
  call.run(*context);
  std::vector<Result> returned = call.results(symbols);
  Destinations results(*bundle.device, bundle.manifest, outputs);
  for (const Result &result : returned)
    results.add({result.shape, result.shape + result.rank}, result.bytes);
  for (size_t i = 0; i < returned.size(); ++i)
    fetch(returned[i], results.tensors()[i], *context);
  context->device->finish();
  results.commit();
}

} // namespace lowbit::runtime
