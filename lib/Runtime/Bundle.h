//===- Bundle.h - an open bundle --------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_BUNDLE_H
#define LOWBIT_LIB_RUNTIME_BUNDLE_H

#include "BundleFiles.h"
#include "Manifest.h"
#include "PlanCache.h"
#include "Run.h"
#include "ThreadPool.h"

#include "lowbit-c/Calibration.h"
#include "lowbit-c/Runtime.h"

#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace lowbit::runtime {

/// The C view of a list of inputs or outputs; refers to a list that lives as long.
class ValueTable {
public:
  explicit ValueTable(const std::vector<ValueInfo> &values);
  ValueTable(const ValueTable &) = delete;
  ValueTable &operator=(const ValueTable &) = delete;

  size_t size() const { return infos.size(); }
  const lowbit_value_info *at(size_t index) const {
    return index < infos.size() ? &infos[index] : nullptr;
  }

private:
  std::vector<std::vector<const char *>> symbols;
  std::vector<lowbit_value_info> infos;
};

} // namespace lowbit::runtime

/// Members are in the order of construction: the model's code goes after the threads that run it.
struct lowbit_bundle {
  /// Throws Failure.
  lowbit_bundle(const std::string &path, int threads, const char *isa, const char *device);

  const std::string text;
  const lowbit::runtime::Manifest manifest;
  const lowbit::runtime::ValueTable inputs, outputs;
  const size_t isa;
  lowbit::runtime::MappedWeights weights;
  /// Null for a bundle for the CPU.
  std::unique_ptr<lowbit::runtime::Device> device;
  /// Of a device that plans runs.
  lowbit::runtime::PlanCache plans;
  lowbit::runtime::ModelLibrary model;
  lowbit::runtime::ThreadPool pool;
  /// Buffers that the model allocated while it was initialized; they live as long as it.
  lowbit::runtime::RunContext initialization;

  lowbit_observer observer = nullptr;
  void *observerUser = nullptr;
  lowbit_exchange exchange = nullptr;
  void *exchangeUser = nullptr;

  std::unique_ptr<lowbit::runtime::RunContext> takeContext();
  void returnContext(std::unique_ptr<lowbit::runtime::RunContext> context) noexcept;

private:
  std::mutex contextsMutex;
  /// One for each run that was ever in progress at the same time.
  std::vector<std::unique_ptr<lowbit::runtime::RunContext>> contexts;
};

namespace lowbit::runtime {

/// lowbit_bundle_run. Throws Failure; outputs are untouched then.
void runBundle(lowbit_bundle &bundle, const lowbit_tensor *inputs, size_t numInputs,
               lowbit_tensor *outputs, size_t numOutputs);

/// lowbit_bundle_time. Throws Failure.
double timeBundle(lowbit_bundle &bundle, const lowbit_tensor *inputs, size_t numInputs,
                  int64_t repetitions);

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_BUNDLE_H
