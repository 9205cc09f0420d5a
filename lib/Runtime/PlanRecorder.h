//===- PlanRecorder.h - makes a launch plan of the calls of a model -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_PLANRECORDER_H
#define LOWBIT_LIB_RUNTIME_PLANRECORDER_H

#include "AddressSpace.h"
#include "Device.h"
#include "LaunchPlan.h"

namespace lowbit::runtime {

/// A result as the model returned it.
struct ReturnedBuffer {
  void *allocated;
  const char *data;
  std::vector<int64_t> shape;
  int64_t bytes;
  bool isRowMajor;
};

/// A run on no device: it writes down what would happen.
class PlanRecorder : public DeviceRun {
public:
  PlanRecorder(const Manifest &manifest, const MappedWeights &weights)
      : manifest(manifest), weights(weights) {}

  /// Announces the next input and returns the address that the model is to get: `host`, where it
  /// reads the input itself, else one that stands for it.
  void *addInput(const void *host, int64_t bytes);

  void *allocate(int64_t bytes) override;
  void free(void *address) override;
  /// Throws Failure for a transfer to the host: what comes next may depend on it.
  void transfer(void *to, const void *from, int64_t bytes) override;
  void enqueue(int64_t kernel, const int64_t *shape, const int64_t *arguments,
               int64_t count) override;
  bool owns(const void *address) const override { return space.owns(address); }

  /// The plan, once the model has returned. A result on the host is a constant.
  LaunchPlan makePlan(const std::vector<ReturnedBuffer> &results);

private:
  struct Range {
    const char *begin;
    int64_t bytes;
  };
  /// What stands at a virtual address: a buffer, or an input where `input` ≥ 0.
  struct Owner {
    int64_t buffer, input;
    bool freed = false;
  };
  /// Where a run will find what is at `address` now, or nothing where that is the host's.
  std::optional<PlanAddress> resolve(const void *address) const;
  PlanAddress use(const void *address, int64_t bytes, const char *what);
  void touch(const PlanAddress &address);
  PlanAddress addConstant(const void *data, int64_t bytes);

  const Manifest &manifest;
  const MappedWeights &weights;
  AddressSpace space;
  std::vector<Owner> owners;     ///< By the number that `space` gave.
  std::vector<Range> hostInputs; ///< Empty for those that are in `space`.
  LaunchPlan plan;
};

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_PLANRECORDER_H
