//===- HostModule.cpp - runs a quantized module on the CPU ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "HostModule.h"
#include "lowbit-c/Model.h"
#include "lowbit/Pipelines/Pipelines.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Target/LLVM/Emit.h"
#include "lowbit/Target/LLVM/Pipeline.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>

using namespace lowbit;
using namespace lowbit::test;

static std::string failed(llvm::Error error) { return llvm::toString(std::move(error)); }

/// The bytes of the constants at the places that lowbit-place-weights gave them; the globals go.
static std::vector<char> takeWeights(ModuleOp module) {
  std::vector<char> weights;
  for (auto global : llvm::make_early_inc_range(module.getOps<memref::GlobalOp>()))
    if (auto place = global->getAttrOfType<IntegerAttr>("lowbit_rt.offset")) {
      auto data = ConstantData::get(cast<ElementsAttr>(*global.getInitialValue()));
      weights.resize(std::max<size_t>(weights.size(), place.getInt() + data->bytes().size()));
      std::memcpy(weights.data() + place.getInt(), data->bytes().data(), data->bytes().size());
      global.erase();
    }
  return weights;
}

static std::string modelError;

static const lowbit_callbacks callbacks = {
    [](int64_t bytes, int64_t alignment) {
      return std::aligned_alloc(64, (std::max<int64_t>(bytes, 1) + 63) / 64 * 64 + 0 * alignment);
    },
    [](void *pointer) { std::free(pointer); },
    [](int64_t tasks, lowbit_task body, void *argument) { body(argument, 0, tasks); },
    [](int64_t, const float *, int64_t, const int64_t *) {},
    [](const char *message) { modelError = message; },
    [](int64_t, float *, int64_t, const int64_t *) {},
    nullptr, nullptr, nullptr, nullptr};

/// A descriptor as int64 words: two pointers, the offset, sizes, strides.
static std::vector<int64_t> describe(const Tensor &tensor) {
  auto data = static_cast<int64_t>(reinterpret_cast<uintptr_t>(tensor.bytes.data()));
  std::vector<int64_t> words = {data, data, 0};
  words.insert(words.end(), tensor.shape.begin(), tensor.shape.end());
  int64_t stride = tensor.elements();
  for (int64_t extent : tensor.shape)
    words.push_back(stride /= std::max<int64_t>(extent, 1));
  return words;
}

std::vector<Tensor> test::runOnHost(ModuleOp module, const std::vector<Tensor> &inputs,
                                    std::string &error) {
  auto function = module.lookupSymbol<func::FuncOp>("main_graph");
  std::vector<std::pair<int64_t, int64_t>> results; // rank, bytes per element
  for (Type type : function.getResultTypes()) {
    auto tensor = cast<RankedTensorType>(type);
    results.push_back({tensor.getRank(), bytesPerElement(tensor.getElementType())});
  }
  PassManager schedule(module.getContext());
  buildToScheduledPipeline(schedule, ToScheduledOptions());
  buildBufferizePipeline(schedule);
  if (mlir::failed(schedule.run(module))) {
    error = "scheduling for the CPU failed";
    return {};
  }
  std::vector<char> storage = takeWeights(module);
  std::vector<char> weights(storage.size() + 64);
  char *start = weights.data() + (64 - reinterpret_cast<uintptr_t>(weights.data()) % 64) % 64;
  std::memcpy(start, storage.data(), storage.size());
  PassManager lower(module.getContext());
  ToExecutableOptions executable;
  executable.isa = {"avx2"};
  buildToExecutablePipeline(lower, executable);
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> code;
  if (mlir::succeeded(lower.run(module)))
    code = translateToLLVM(module, context, ObjectOptions());
  if (!code) {
    error = "generating code for the CPU failed";
    return {};
  }
  SmallString<128> object, library;
  int descriptor;
  llvm::sys::fs::createTemporaryFile("lowbit-host", "o", descriptor, object);
  llvm::sys::fs::createTemporaryFile("lowbit-host", "so", library);
  if (llvm::Error failure = optimize(*code, ObjectOptions())) {
    error = failed(std::move(failure));
    return {};
  }
  auto bytes = emitObject(*code, ObjectOptions());
  if (!bytes) {
    error = failed(bytes.takeError());
    return {};
  }
  llvm::raw_fd_ostream(descriptor, true).write(bytes->data(), bytes->size());
  llvm::Error linked = linkShared({std::string(object)}, library, {"lowbit_model_*"});
  llvm::sys::fs::remove(object);
  if (linked) {
    error = failed(std::move(linked));
    return {};
  }
  void *handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  llvm::sys::fs::remove(library);
  if (!handle) {
    error = dlerror();
    return {};
  }
  auto *init = reinterpret_cast<void (*)(const lowbit_callbacks *, const void *, int64_t)>(
      dlsym(handle, "lowbit_model_init"));
  auto *run = reinterpret_cast<void (*)(void *const *, void *)>(dlsym(handle, "lowbit_model_run"));
  init(&callbacks, start, 0);
  std::vector<std::vector<int64_t>> descriptors;
  std::vector<void *> pointers;
  for (const Tensor &input : inputs)
    descriptors.push_back(describe(input));
  for (auto &words : descriptors)
    pointers.push_back(words.data());
  size_t words = 0;
  for (auto [rank, size] : results)
    words += 3 + 2 * rank;
  std::vector<int64_t> raw(words);
  modelError.clear();
  run(pointers.data(), raw.data());
  error = modelError;
  std::vector<Tensor> outputs;
  const int64_t *at = raw.data();
  for (auto [rank, size] : results) {
    Tensor tensor;
    tensor.shape.assign(at + 3, at + 3 + rank);
    auto *data = reinterpret_cast<const char *>(at[1]) + at[2] * size;
    tensor.bytes.assign(data, data + tensor.elements() * size);
    outputs.push_back(std::move(tensor));
    at += 3 + 2 * rank;
  }
  return outputs;
}
