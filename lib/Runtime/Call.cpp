//===- Call.cpp - what goes into a model's code and comes out of it -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Call.h"

#include "Failure.h"
#include "Tensor.h"

#include <algorithm>
#include <cstring>

namespace lowbit::runtime {

ContextLease::ContextLease(lowbit_bundle &bundle) : bundle(bundle), context(bundle.takeContext()) {
  context->observer = bundle.observer;
  context->observerUser = bundle.observerUser;
  context->exchange = bundle.exchange;
  context->exchangeUser = bundle.exchangeUser;
}

/// Words of the descriptor of a tensor of a rank, see Model.h.
constexpr size_t descriptorWords(size_t rank) { return 3 + 2 * rank; }

void Symbols::check(const ValueInfo &info, const int64_t *shape, const std::string &what,
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

void checkInput(const lowbit_tensor &tensor, const ValueInfo &info, const std::string &what,
                Symbols &symbols) {
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

RunTensor denseInput(const lowbit_tensor &tensor, const std::string &what, const Device *device,
                     RunContext &context) {
  int64_t size = elementSize(tensor.dtype);
  int64_t bytes = *byteSize(tensor.shape, tensor.rank, size);
  void *data = tensor.data;
  if (bytes > 0 && !data)
    fail(LOWBIT_INVALID, what + " has no data");
  bool rowMajor = isRowMajor(tensor.shape, tensor.strides, tensor.rank);
  if (tensor.device != LOWBIT_CPU) {
    if (tensor.device != LOWBIT_CUDA || !device)
      fail(LOWBIT_UNAVAILABLE, what + " is on device " + std::to_string(tensor.device) +
                                   ", this bundle takes CPU memory");
    if (!rowMajor)
      fail(LOWBIT_INVALID, what + " is strided; on a GPU it has to be row-major");
    RunTensor result = {data, bytes, true};
    device->checkTensor(result, what);
    return result;
  }
  int64_t strides[LOWBIT_MAX_RANK];
  setRowMajor(tensor.shape, tensor.rank, strides);
  bool aligned = reinterpret_cast<uintptr_t>(data) % uintptr_t(size) == 0;
  if (!data || !aligned || !rowMajor) {
    data = context.memory.allocate(bytes, 64);
    if (!data)
      fail(LOWBIT_NO_MEMORY, "out of memory for a copy of " + what);
    copyStrided(tensor.data, tensor.strides, data, strides, tensor.shape, tensor.rank, size);
  }
  if (tensor.dtype == LOWBIT_BOOL)
    checkBools(data, bytes, what);
  return {data, bytes, false};
}

void checkOutput(const lowbit_tensor &tensor, const ValueInfo &info, const std::string &what,
                 const Device *device) {
  if (tensor.device != LOWBIT_CPU && (tensor.device != LOWBIT_CUDA || !device))
    fail(LOWBIT_UNAVAILABLE, what + " is wanted on device " + std::to_string(tensor.device) +
                                 ", this bundle gives CPU memory");
  if (!tensor.data)
    return;
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
  if (tensor.device == LOWBIT_CPU)
    return;
  if (!isRowMajor(tensor.shape, tensor.strides, tensor.rank))
    fail(LOWBIT_INVALID, what + " is strided; on a GPU it has to be row-major");
  if (auto bytes = byteSize(tensor.shape, tensor.rank, elementSize(tensor.dtype)))
    device->checkTensor({tensor.data, *bytes, true}, what);
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

Call::Call(lowbit_bundle &bundle) : bundle(bundle) {
  size_t count = 0;
  for (const ValueInfo &info : bundle.manifest.outputs)
    count += descriptorWords(info.dims.size());
  words.resize(count);
}

void Call::addInput(void *data, const lowbit_tensor &tensor) {
  std::vector<int64_t> descriptor(descriptorWords(size_t(tensor.rank)));
  std::memcpy(&descriptor[0], &data, sizeof data);
  std::memcpy(&descriptor[1], &data, sizeof data);
  std::copy_n(tensor.shape, tensor.rank, descriptor.begin() + 3);
  setRowMajor(tensor.shape, tensor.rank, &descriptor[3] + tensor.rank);
  descriptors.push_back(std::move(descriptor));
  inputs.push_back(descriptors.back().data());
}

void Call::run(RunContext &context) {
  callModel(
      context,
      [](void *argument) {
        auto &call = *static_cast<Call *>(argument);
        call.bundle.model.run(call.inputs.data(), call.words.data());
      },
      this);
  if (context.failure != LOWBIT_OK)
    fail(context.failure, context.message);
}

std::vector<Result> Call::results(Symbols &symbols) const {
  std::vector<Result> results;
  const int64_t *at = words.data();
  for (const ValueInfo &info : bundle.manifest.outputs) {
    results.push_back(readResult(at, info, "output " + inQuotes(info.name), symbols));
    at += descriptorWords(info.dims.size());
  }
  return results;
}

} // namespace lowbit::runtime
