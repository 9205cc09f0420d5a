//===- RunBundle.cpp - one run: inputs checked, results handed over ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Bundle.h"
#include "Failure.h"
#include "Tensor.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace lowbit::runtime {

namespace {

/// Returns a run's context to its bundle, however the run ends.
class ContextLease {
public:
  explicit ContextLease(lowbit_bundle &bundle) : bundle(bundle), context(bundle.takeContext()) {}
  ~ContextLease() { bundle.returnContext(std::move(context)); }
  RunContext &operator*() const { return *context; }
  RunContext *operator->() const { return context.get(); }

private:
  lowbit_bundle &bundle;
  std::unique_ptr<RunContext> context;
};

/// Sizes of the dynamic dimensions of one run.
class Symbols {
public:
  /// Checks `shape` against what `info` says and remembers new symbols. `what` names the value.
  void check(const ValueInfo &info, const int64_t *shape, const std::string &what,
             lowbit_status status) {
    for (size_t i = 0; i < info.dims.size(); ++i) {
      if (info.dims[i] != -1 && shape[i] != info.dims[i])
        fail(status, what + " has shape " + shapeText(shape, int64_t(info.dims.size())) +
                         ", expected " + shapeText(info.dims.data(), int64_t(info.dims.size())));
      if (info.symbols[i].empty())
        continue;
      auto same = [&](const Binding &b) { return *b.symbol == info.symbols[i]; };
      auto it = std::find_if(bindings.begin(), bindings.end(), same);
      if (it == bindings.end())
        bindings.push_back({&info.symbols[i], shape[i], what});
      else if (it->size != shape[i])
        fail(status, what + " dimension " + std::to_string(i) + " is " + std::to_string(shape[i]) +
                         ", but " + inQuotes(info.symbols[i]) + " is " + std::to_string(it->size) +
                         " in " + it->where);
    }
  }

private:
  struct Binding {
    const std::string *symbol;
    int64_t size;
    std::string where;
  };
  std::vector<Binding> bindings;
};

/// Words of the descriptor of a tensor of a rank, see Model.h.
constexpr size_t descriptorWords(size_t rank) { return 3 + 2 * rank; }

/// What is handed to the model.
struct Call {
  lowbit_bundle *bundle;
  std::vector<std::vector<int64_t>> descriptors;
  std::vector<void *> inputs;
  std::vector<int64_t> results;
};

/// A result as the model returned it.
struct Result {
  void *allocated;
  char *data;
  int64_t shape[LOWBIT_MAX_RANK], strides[LOWBIT_MAX_RANK];
  int64_t rank, bytes, elementSize;
};

} // namespace

static void checkInput(const lowbit_tensor &tensor, const ValueInfo &info, const std::string &what,
                       Symbols &symbols) {
  if (tensor.device != LOWBIT_CPU)
    fail(LOWBIT_UNAVAILABLE, what + " is on device " + std::to_string(tensor.device) +
                                 ", this bundle takes CPU memory");
  if (tensor.dtype != info.dtype)
    fail(LOWBIT_INVALID,
         what + " has dtype " + dtypeName(tensor.dtype) + ", expected " + dtypeName(info.dtype));
  if (tensor.rank != int32_t(info.dims.size()))
    fail(LOWBIT_INVALID, what + " has rank " + std::to_string(tensor.rank) + ", expected " +
                             std::to_string(info.dims.size()) + " (shape " +
                             shapeText(info.dims.data(), int64_t(info.dims.size())) + ")");
  if (!byteSize(tensor.shape, tensor.rank, elementSize(tensor.dtype)))
    fail(LOWBIT_INVALID,
         what + " has the impossible shape " + shapeText(tensor.shape, tensor.rank));
  symbols.check(info, tensor.shape, what, LOWBIT_INVALID);
}

/// Bytes other than 0 and 1 are no bool; the model's code may do anything with them.
static void checkBools(const void *data, int64_t count, const std::string &what) {
  const auto *bytes = static_cast<const unsigned char *>(data);
  for (int64_t i = 0; i < count; ++i)
    if (bytes[i] > 1)
      fail(LOWBIT_INVALID,
           what + " is bool and holds the byte " + std::to_string(bytes[i]) + ", expected 0 or 1");
}

/// Appends the descriptor of an input, a row-major copy of it where it is none itself.
static void addInput(const lowbit_tensor &tensor, const std::string &what, RunContext &context,
                     Call &call) {
  int64_t size = elementSize(tensor.dtype);
  int64_t bytes = *byteSize(tensor.shape, tensor.rank, size);
  void *data = tensor.data;
  if (bytes > 0 && !data)
    fail(LOWBIT_INVALID, what + " has no data");
  int64_t strides[LOWBIT_MAX_RANK];
  setRowMajor(tensor.shape, tensor.rank, strides);
  bool aligned = reinterpret_cast<uintptr_t>(data) % uintptr_t(size) == 0;
  if (!data || !aligned || !isRowMajor(tensor.shape, tensor.strides, tensor.rank)) {
    data = context.memory.allocate(bytes, 64);
    if (!data)
      fail(LOWBIT_NO_MEMORY, "out of memory for a copy of " + what);
    copyStrided(tensor.data, tensor.strides, data, strides, tensor.shape, tensor.rank, size);
  }
  if (tensor.dtype == LOWBIT_BOOL)
    checkBools(data, bytes, what);

  std::vector<int64_t> descriptor(descriptorWords(size_t(tensor.rank)));
  std::memcpy(&descriptor[0], &data, sizeof data);
  std::memcpy(&descriptor[1], &data, sizeof data);
  std::copy_n(tensor.shape, tensor.rank, descriptor.begin() + 3);
  std::copy_n(strides, tensor.rank, descriptor.begin() + 3 + tensor.rank);
  call.descriptors.push_back(std::move(descriptor));
  call.inputs.push_back(call.descriptors.back().data());
}

/// What can be said about the caller's output memory before the run.
static void checkOutput(const lowbit_tensor &tensor, const ValueInfo &info,
                        const std::string &what) {
  if (!tensor.data)
    return;
  if (tensor.device != LOWBIT_CPU)
    fail(LOWBIT_UNAVAILABLE, what + " is on device " + std::to_string(tensor.device) +
                                 ", this bundle gives CPU memory");
  if (tensor.dtype != info.dtype)
    fail(LOWBIT_INVALID,
         what + " has dtype " + dtypeName(tensor.dtype) + ", expected " + dtypeName(info.dtype));
  if (tensor.rank != int32_t(info.dims.size()))
    fail(LOWBIT_INVALID, what + " has rank " + std::to_string(tensor.rank) + ", expected " +
                             std::to_string(info.dims.size()));
  for (int32_t i = 0; i < tensor.rank; ++i) {
    if (tensor.shape[i] < 0 ||
        (info.dims[size_t(i)] != -1 && tensor.shape[i] != info.dims[size_t(i)]))
      fail(LOWBIT_INVALID, what + " has shape " + shapeText(tensor.shape, tensor.rank) +
                               ", expected " + shapeText(info.dims.data(), tensor.rank));
    if (tensor.strides[i] == 0 && tensor.shape[i] > 1)
      fail(LOWBIT_INVALID, what + " has stride 0 in dimension " + std::to_string(i) +
                               ": its elements share memory");
  }
}

/// Reads one result descriptor at `words` and checks it.
static Result readResult(const int64_t *words, const ValueInfo &info, const std::string &what,
                         Symbols &symbols) {
  Result result;
  result.rank = int64_t(info.dims.size());
  result.elementSize = elementSize(info.dtype);
  void *aligned;
  std::memcpy(&result.allocated, &words[0], sizeof(void *));
  std::memcpy(&aligned, &words[1], sizeof(void *));
  result.data = static_cast<char *>(aligned) + words[2] * result.elementSize;
  std::copy_n(words + 3, result.rank, result.shape);
  std::copy_n(words + 3 + result.rank, result.rank, result.strides);
  std::optional<int64_t> bytes = byteSize(result.shape, result.rank, result.elementSize);
  if (!bytes || (*bytes > 0 && !aligned))
    fail(LOWBIT_INTERNAL, "the model returned an impossible " + what + ", shape " +
                              shapeText(result.shape, result.rank));
  result.bytes = *bytes;
  symbols.check(info, result.shape, "the model's " + what, LOWBIT_INTERNAL);
  return result;
}

/// The bytes of an input as the model gets it.
static HostRange inputRange(const std::vector<int64_t> &descriptor, const ValueInfo &info) {
  char *data;
  std::memcpy(&data, &descriptor[1], sizeof data);
  int32_t rank = int32_t(info.dims.size());
  return {data, *byteSize(descriptor.data() + 3, rank, elementSize(info.dtype))};
}

/// Brings a result that is on the device, where it is row-major, to the host.
static void fetchResult(Result &result, RunContext &context) {
  if (!context.device->owns(result.allocated))
    return;
  void *copy = context.memory.allocate(result.bytes, 64);
  if (!copy)
    fail(LOWBIT_NO_MEMORY, "out of memory for a result");
  if (result.bytes > 0)
    context.device->transfer(copy, result.data, result.bytes);
  result.allocated = copy;
  result.data = static_cast<char *>(copy);
}

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
    checkOutput(outputs[i], manifest.outputs[i], "output " + inQuotes(manifest.outputs[i].name));

  ContextLease context(bundle);
  context->observer = bundle.observer;
  context->observerUser = bundle.observerUser;
  context->exchange = bundle.exchange;
  context->exchangeUser = bundle.exchangeUser;
  Call call{&bundle, {}, {}, {}};
  for (size_t i = 0; i < numInputs; ++i)
    addInput(inputs[i], "input " + inQuotes(manifest.inputs[i].name), *context, call);
  size_t words = 0;
  for (const ValueInfo &info : manifest.outputs)
    words += descriptorWords(info.dims.size());
  call.results.resize(words);

  if (bundle.device) {
    std::vector<HostRange> ranges;
    for (size_t i = 0; i < numInputs; ++i)
      ranges.push_back(inputRange(call.descriptors[i], manifest.inputs[i]));
    context->device = bundle.device->begin(std::move(ranges));
  }
  callModel(
      *context,
      [](void *argument) {
        auto &call = *static_cast<Call *>(argument);
        call.bundle->model.run(call.inputs.data(), call.results.data());
      },
      &call);
  if (context->failure != LOWBIT_OK)
    fail(context->failure, context->message);

  std::vector<Result> results;
  const int64_t *at = call.results.data();
  for (const ValueInfo &info : manifest.outputs) {
    results.push_back(readResult(at, info, "output " + inQuotes(info.name), symbols));
    at += descriptorWords(info.dims.size());
    if (context->device)
      fetchResult(results.back(), *context);
  }
  deliver(results, manifest, *context, outputs);
}

} // namespace lowbit::runtime
