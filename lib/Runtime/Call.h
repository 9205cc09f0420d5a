//===- Call.h - what goes into a model's code and comes out of it -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_CALL_H
#define LOWBIT_LIB_RUNTIME_CALL_H

#include "Bundle.h"

#include <memory>
#include <string>
#include <vector>

namespace lowbit::runtime {

/// Returns a run's context to its bundle, however the run ends.
class ContextLease {
public:
  explicit ContextLease(lowbit_bundle &bundle);
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
  /// Throws Failure with `status`.
  void check(const ValueInfo &info, const int64_t *shape, const std::string &what,
             lowbit_status status);

private:
  struct Binding {
    const std::string *symbol;
    int64_t size;
    std::string where;
  };
  std::vector<Binding> bindings;
};

/// A result as the model returned it.
struct Result {
  void *allocated;
  char *data;
  int64_t shape[LOWBIT_MAX_RANK], strides[LOWBIT_MAX_RANK];
  int64_t rank, bytes, elementSize;
};

/// What is handed to the model: descriptors of inputs, and room for those of results.
class Call {
public:
  explicit Call(lowbit_bundle &bundle);
  /// The next input, row-major from `data` on.
  void addInput(void *data, const lowbit_tensor &tensor);
  /// Runs the model with the callbacks acting for `context`. Throws Failure.
  void run(RunContext &context);
  /// The results, each checked. Throws Failure.
  std::vector<Result> results(Symbols &symbols) const;

private:
  lowbit_bundle &bundle;
  std::vector<std::vector<int64_t>> descriptors;
  std::vector<void *> inputs;
  std::vector<int64_t> words;
};

/// Checks the caller's tensor against what the model takes. Throws Failure.
void checkInput(const lowbit_tensor &tensor, const ValueInfo &info, const std::string &what,
                Symbols &symbols);
/// Checks what can be said about the caller's memory for a result before the run. `device` is null
/// for the CPU. Throws Failure.
void checkOutput(const lowbit_tensor &tensor, const ValueInfo &info, const std::string &what,
                 const Device *device);

/// The input's memory, a row-major copy of it where it is none itself; on a device it has to be.
/// `device` is null for the CPU.
RunTensor denseInput(const lowbit_tensor &tensor, const std::string &what, const Device *device,
                     RunContext &context);

/// Runs a bundle for a device; inputs and outputs have been checked. Throws Failure.
void runOnDevice(lowbit_bundle &bundle, const lowbit_tensor *inputs, Symbols &symbols,
                 lowbit_tensor *outputs);

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_CALL_H
