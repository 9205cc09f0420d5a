//===- Device.h - where kernels run -----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_DEVICE_H
#define LOWBIT_LIB_RUNTIME_DEVICE_H

#include "BundleFiles.h"
#include "LaunchPlan.h"
#include "Manifest.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lowbit::runtime {

/// Row-major memory of an input, or for a result.
struct RunTensor {
  void *data;
  int64_t bytes;
  bool onDevice; ///< Else on the host.
};

/// How a device gets the launches of a run.
enum class LaunchMode {
  Eager, ///< Each as the host code makes it.
  Plan,  ///< From a LaunchPlan, one by one.
  Graph  ///< From a LaunchPlan, all at once where the device can do that.
};

/// What LOWBIT_LAUNCH in the environment says (eager, plan or graph), `otherwise` where it says
/// nothing. Throws Failure for other words.
LaunchMode launchMode(LaunchMode otherwise);

/// One run on a device: what the callbacks of lowbit-c/Model.h do, in the order of the calls, which
/// come from one thread. All throw Failure.
class DeviceRun {
public:
  virtual ~DeviceRun();
  /// bytes ≥ 0; never null.
  virtual void *allocate(int64_t bytes) = 0;
  virtual void free(void *address) = 0;
  virtual void transfer(void *to, const void *from, int64_t bytes) = 0;
  virtual void enqueue(int64_t kernel, const int64_t *shape, const int64_t *arguments,
                       int64_t count) = 0;
  /// Whether `address` is within memory that this run allocated on the device.
  virtual bool owns(const void *address) const = 0;
  /// Copies `to.bytes` bytes from anywhere: memory of this run, an input, a weight, the host.
  virtual void copyResult(const RunTensor &to, const void *from);
  /// Waits until everything is done.
  virtual void finish() {}
};

/// A plan made ready for a device, which may keep more with it.
struct PreparedPlan {
  explicit PreparedPlan(LaunchPlan plan) : plan(std::move(plan)) {}
  virtual ~PreparedPlan();
  const LaunchPlan plan;
};

/// A device that has a bundle's kernels. Several runs may be in progress.
class Device {
public:
  virtual ~Device();
  /// Kernels may read `inputs` by these addresses while the run lives; the device sees to it.
  virtual std::unique_ptr<DeviceRun> begin(std::vector<RunTensor> inputs) = 0;

  /// Whether runs are to be planned where the bundle allows it.
  virtual bool plansRuns() const = 0;
  virtual std::shared_ptr<PreparedPlan> prepare(LaunchPlan plan);
  /// Does the plan's steps on these inputs, and puts its results into `results`. All is
  /// done on return.
  virtual void replay(PreparedPlan &plan, const std::vector<RunTensor> &inputs,
                      const std::vector<RunTensor> &results) = 0;

  /// Milliseconds of one replay on the device alone, the mean of so many in a row.
  virtual double time(PreparedPlan &plan, const std::vector<RunTensor> &inputs,
                      int64_t repetitions);
  /// Copies a tensor on the device to the host; done on return.
  virtual void read(const RunTensor &tensor, void *host);
  /// Throws Failure unless `tensor.data` is memory of this device; `what` names the tensor.
  virtual void checkTensor(const RunTensor &tensor, const std::string &what) const;
  /// Memory for releaseDeviceTensor(), which may come after the device's end.
  virtual void *allocateTensor(int64_t bytes);
};

/// The emulator, which ships as liblowbit-emulator.so beside this library, with emulator.so of the
/// bundle at `path`. Throws Failure: LOWBIT_UNAVAILABLE where there is no emulator.
std::unique_ptr<Device> openEmulator(const std::string &path, const Manifest &manifest,
                                     const MappedWeights &weights);

/// GPU number `ordinal`, with the kernels of the bundle at `path` and a copy of its weights. Throws
/// Failure: LOWBIT_UNAVAILABLE where there is no driver or no such GPU, LOWBIT_UNSUPPORTED where it
/// is too old.
std::unique_ptr<Device> openCuda(const std::string &path, const Manifest &manifest,
                                 const MappedWeights &weights, int ordinal);

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_DEVICE_H
