//===- Device.h - where kernels run -----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_DEVICE_H
#define LOWBIT_LIB_RUNTIME_DEVICE_H

#include "BundleFiles.h"
#include "Manifest.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lowbit::runtime {

/// Bytes of host memory.
struct HostRange {
  const char *begin;
  int64_t bytes;
};

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
  /// Whether `address` is within device memory of this run.
  virtual bool owns(const void *address) const = 0;
};

/// A device that has a bundle's kernels. Several runs may be in progress.
class Device {
public:
  virtual ~Device();
  /// Kernels may read `inputs` by their host addresses while the run lives; the device sees to it.
  virtual std::unique_ptr<DeviceRun> begin(std::vector<HostRange> inputs) = 0;
};

/// The emulator, which ships as liblowbit-emulator.so beside this library, with emulator.so of the
/// bundle at `path`. Throws Failure: LOWBIT_UNAVAILABLE where there is no emulator.
std::unique_ptr<Device> openEmulator(const std::string &path, const Manifest &manifest,
                                     const MappedWeights &weights);

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_DEVICE_H
