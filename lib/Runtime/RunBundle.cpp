//===- RunBundle.cpp - one run: inputs checked, results handed over ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Call.h"
#include "Failure.h"
#include "Tensor.h"

#include <algorithm>
#include <utility>

namespace lowbit::runtime {

/// Memory for the caller that holds `result`: the model's own buffer where that is exactly the
/// result, else a copy.
static void *takeResult(const Result &result, RunContext &context) {
  bool whole =
      result.allocated == result.data && isRowMajor(result.shape, result.strides, result.rank);
  if (whole && context.memory.detach(result.allocated, result.bytes))
    return result.allocated;
  void *data = RunMemory::allocateDetached(result.bytes);
  if (!data)
    fail(LOWBIT_NO_MEMORY, "out of memory for a result");
  int64_t strides[LOWBIT_MAX_RANK];
  setRowMajor(result.shape, result.rank, strides);
  copyStrided(result.data, result.strides, data, strides, result.shape, result.rank,
              result.elementSize);
  return data;
}

/// Hands all results over, or none.
static void deliver(const std::vector<Result> &results, const Manifest &manifest,
                    RunContext &context, lowbit_tensor *outputs) {
  struct Taken {
    std::vector<void *> buffers;
    ~Taken() {
      for (void *buffer : buffers)
        RunMemory::release(buffer);
    }
  } taken;
  taken.buffers.resize(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    const Result &r = results[i];
    const ValueInfo &info = manifest.outputs[i];
    if (!outputs[i].data)
      continue;
    if (!std::equal(r.shape, r.shape + r.rank, outputs[i].shape))
      fail(LOWBIT_INVALID, "output " + inQuotes(info.name) + " has room for shape " +
                               shapeText(outputs[i].shape, r.rank) + ", the result has " +
                               shapeText(r.shape, r.rank));
  }
  for (size_t i = 0; i < results.size(); ++i) {
    if (outputs[i].data)
      continue;
    bool shared = false;
    for (size_t j = 0; j < results.size(); ++j)
      shared |= j != i && results[j].allocated == results[i].allocated;
    Result mine = results[i];
    if (shared)
      mine.allocated = nullptr;
    taken.buffers[i] = takeResult(mine, context);
  }
  for (size_t i = 0; i < results.size(); ++i) {
    const Result &r = results[i];
    lowbit_tensor &out = outputs[i];
    if (out.data) {
      copyStrided(r.data, r.strides, out.data, out.strides, r.shape, r.rank, r.elementSize);
      continue;
    }
    out.data = std::exchange(taken.buffers[i], nullptr);
    out.dtype = manifest.outputs[i].dtype;
    out.rank = int32_t(r.rank);
    std::copy_n(r.shape, r.rank, out.shape);
    setRowMajor(r.shape, r.rank, out.strides);
    out.device = LOWBIT_CPU;
    out.owned = 1;
  }
}

void runBundle(lowbit_bundle &bundle, const lowbit_tensor *inputs, size_t numInputs,
               lowbit_tensor *outputs, size_t numOutputs) {
  const Manifest &manifest = bundle.manifest;
  if (numInputs != manifest.inputs.size() || numOutputs != manifest.outputs.size())
    fail(LOWBIT_INVALID, "the bundle has " + std::to_string(manifest.inputs.size()) +
                             " inputs and " + std::to_string(manifest.outputs.size()) +
                             " outputs, given were " + std::to_string(numInputs) + " and " +
                             std::to_string(numOutputs));
  Symbols symbols;
  for (size_t i = 0; i < numInputs; ++i)
    checkInput(inputs[i], manifest.inputs[i], "input " + inQuotes(manifest.inputs[i].name),
               symbols);
  for (size_t i = 0; i < numOutputs; ++i)
    checkOutput(outputs[i], manifest.outputs[i], "output " + inQuotes(manifest.outputs[i].name),
                bundle.device.get());

  if (bundle.device)
    return runOnDevice(bundle, inputs, symbols, outputs);
  ContextLease context(bundle);
  Call call(bundle);
  for (size_t i = 0; i < numInputs; ++i) {
    std::string what = "input " + inQuotes(manifest.inputs[i].name);
    call.addInput(denseInput(inputs[i], what, nullptr, *context).data, inputs[i]);
  }
  call.run(*context);
  deliver(call.results(symbols), manifest, *context, outputs);
}

} // namespace lowbit::runtime
