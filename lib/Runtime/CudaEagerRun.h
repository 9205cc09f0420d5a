//===- CudaEagerRun.h - one run on an NVIDIA GPU, launch by launch -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_CUDAEAGERRUN_H
#define LOWBIT_LIB_RUNTIME_CUDAEAGERRUN_H

#include "CudaDevice.h"

#include <optional>

namespace lowbit::runtime::cuda {

/// For bundles whose host code waits for what the GPU computes. Buffers come from the slot's heap,
/// which allocates nothing once it has had a run of the same size.
class CudaEagerRun : public DeviceRun {
public:
  CudaEagerRun(CudaDevice &device, std::vector<RunTensor> inputs);
  ~CudaEagerRun() override;
  void *allocate(int64_t bytes) override;
  void free(void *address) override;
  void transfer(void *to, const void *from, int64_t bytes) override;
  void enqueue(int64_t kernel, const int64_t *shape, const int64_t *arguments,
               int64_t count) override;
  bool owns(const void *address) const override;
  void copyResult(const RunTensor &to, const void *from) override;
  void finish() override;

private:
  struct Input {
    RunTensor tensor;
    CUdeviceptr copy; ///< The tensor itself where it can be used in place.
  };
  struct Place {
    CUdeviceptr address;
    int64_t rest; ///< Bytes from there on to the end of what it is in.
  };
  std::optional<Place> resolve(const void *address) const;
  Place resolveWithin(const void *address, int64_t bytes) const;

  CudaDevice &device;
  SlotLease slot;
  std::vector<Input> inputs;
};

} // namespace lowbit::runtime::cuda

#endif // LOWBIT_LIB_RUNTIME_CUDAEAGERRUN_H
