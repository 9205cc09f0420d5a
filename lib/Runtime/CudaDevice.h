//===- CudaDevice.h - a bundle on an NVIDIA GPU -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_CUDADEVICE_H
#define LOWBIT_LIB_RUNTIME_CUDADEVICE_H

#include "CudaGraph.h"
#include "CudaMemory.h"
#include "Device.h"

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

namespace lowbit::runtime::cuda {

class CudaDevice;

/// A plan whose constants are on the GPU.
struct CudaPlan : PreparedPlan, std::enable_shared_from_this<CudaPlan> {
  CudaPlan(LaunchPlan plan, std::shared_ptr<Context> context)
      : PreparedPlan(std::move(plan)), context(std::move(context)) {}
  ~CudaPlan() override;
  std::shared_ptr<Context> context;
  DeviceBlock constants;
  std::atomic<int64_t> replays{0};
};

/// What one run at a time uses, kept for the next: a stream, memory, and the graphs that have its
/// addresses in them.
class Slot {
public:
  explicit Slot(CudaDevice &device);
  ~Slot();
  Slot(const Slot &) = delete;
  Slot &operator=(const Slot &) = delete;

  void replay(CudaPlan &plan, const std::vector<RunTensor> &inputs,
              const std::vector<RunTensor> &results);
  double time(CudaPlan &plan, const std::vector<RunTensor> &inputs, int64_t repetitions);
  /// Lets the stream wait for what other libraries have in progress on tensors that they lend.
  void waitForOthers();

  CudaDevice &device;
  CUstream stream = nullptr;
  /// Of runs without a plan.
  DeviceHeap heap;

private:
  Addresses place(const CudaPlan &plan, const std::vector<RunTensor> &inputs,
                  const std::vector<RunTensor> &results);
  /// Sends the inputs that are not used in place; returns the pinned memory that is left.
  char *send(const Addresses &addresses, const std::vector<RunTensor> &inputs, int64_t resultBytes);
  PlanGraph &graphFor(CudaPlan &plan, const Addresses &addresses);

  CUevent event = nullptr;
  DeviceBlock memory;
  PinnedBlock pinned;
  struct Entry {
    std::shared_ptr<CudaPlan> plan; ///< The graph refers to it.
    std::unique_ptr<PlanGraph> graph;
  };
  std::list<Entry> graphs; ///< The latest first.
};

/// A slot that goes back to its device, unless something went wrong in between.
class SlotLease {
public:
  explicit SlotLease(CudaDevice &device);
  ~SlotLease();
  Slot &operator*() const { return *slot; }
  Slot *operator->() const { return slot.get(); }
  /// All that the slot was used for is done.
  void setDone() { done = true; }

private:
  CudaDevice &device;
  std::unique_ptr<Slot> slot;
  bool done = false;
};

class CudaDevice : public Device {
public:
  CudaDevice(const std::string &path, const Manifest &manifest, const MappedWeights &weights,
             int ordinal);
  ~CudaDevice() override;
  std::unique_ptr<DeviceRun> begin(std::vector<RunTensor> inputs) override;
  bool plansRuns() const override { return mode != LaunchMode::Eager; }
  std::shared_ptr<PreparedPlan> prepare(LaunchPlan plan) override;
  void replay(PreparedPlan &plan, const std::vector<RunTensor> &inputs,
              const std::vector<RunTensor> &results) override;
  double time(PreparedPlan &plan, const std::vector<RunTensor> &inputs,
              int64_t repetitions) override;
  void read(const RunTensor &tensor, void *host) override;
  void checkTensor(const RunTensor &tensor, const std::string &what) const override;
  void *allocateTensor(int64_t bytes) override;

  std::unique_ptr<Slot> takeSlot();
  void returnSlot(std::unique_ptr<Slot> slot) noexcept;

  const Manifest &manifest;
  const MappedWeights &weights;
  const LaunchMode mode;
  std::shared_ptr<Context> context;
  Kernels kernels;
  DeviceBlock weightsCopy;

private:
  void loadKernels(const std::string &file);

  CUlibrary library = nullptr;
  std::shared_ptr<TensorPool> tensors;
  std::mutex slotsMutex;
  /// One for each run that was ever in progress at the same time.
  std::vector<std::unique_ptr<Slot>> slots;
};

} // namespace lowbit::runtime::cuda

#endif // LOWBIT_LIB_RUNTIME_CUDADEVICE_H
