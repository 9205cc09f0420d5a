//===- DeviceTensors.h - device memory that callers hold -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_DEVICETENSORS_H
#define LOWBIT_LIB_RUNTIME_DEVICETENSORS_H

#include <cstdint>
#include <memory>

namespace lowbit::runtime {

/// What takes device memory back. It may outlive its bundle: callers keep results.
class DeviceTensorOwner {
public:
  virtual ~DeviceTensorOwner();
  /// Frees, or keeps for the next result.
  virtual void release(void *address, int64_t bytes) noexcept = 0;
  /// Device to host; done on return. Throws Failure.
  virtual void read(const void *address, void *host, int64_t bytes) = 0;
};

/// Remembers that `address`, of `bytes` bytes, is a caller's now. Any thread may call this and what
/// follows. Throws std::bad_alloc.
void addDeviceTensor(void *address, int64_t bytes, std::shared_ptr<DeviceTensorOwner> owner);
/// Has the memory wait for one more releaseDeviceTensor(). Throws Failure for other addresses.
void retainDeviceTensor(void *address);
/// Gives the memory back to its owner after the last use; does nothing for other addresses.
void releaseDeviceTensor(void *address) noexcept;
/// Copies from within such memory to the host. Throws Failure where `address` is in none, or it is
/// shorter.
void readDeviceTensor(const void *address, void *host, int64_t bytes);

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_DEVICETENSORS_H
