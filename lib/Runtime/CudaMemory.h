//===- CudaMemory.h - device and pinned memory -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_CUDAMEMORY_H
#define LOWBIT_LIB_RUNTIME_CUDAMEMORY_H

#include "CudaDriver.h"
#include "DeviceTensors.h"

#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace lowbit::runtime::cuda {

/// What every address that is given out is a multiple of.
constexpr int64_t alignment = 256;
inline int64_t aligned(int64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

/// Device memory, freed with the object. The context has to be current in all that follows.
class DeviceBlock {
public:
  DeviceBlock() = default;
  ~DeviceBlock() { reset(); }
  DeviceBlock(DeviceBlock &&other) noexcept;
  DeviceBlock &operator=(DeviceBlock &&other) noexcept;

  /// At least `bytes` bytes; what was there is lost where there were fewer. Returns whether the
  /// address is another now. `purpose` is for the error.
  bool reserve(int64_t bytes, const char *purpose);
  void reset() noexcept;
  CUdeviceptr address() const { return base; }
  int64_t bytes() const { return size; }

private:
  CUdeviceptr base = 0;
  int64_t size = 0;
};

/// Host memory that the GPU copies from and to by itself.
class PinnedBlock {
public:
  PinnedBlock() = default;
  ~PinnedBlock();
  PinnedBlock(const PinnedBlock &) = delete;
  PinnedBlock &operator=(const PinnedBlock &) = delete;
  void reserve(int64_t bytes);
  char *data() const { return static_cast<char *>(memory); }

private:
  void *memory = nullptr;
  int64_t size = 0;
};

/// Copies from pageable host memory to the device through two pinned buffers, one of which is
/// filled while the other is sent. Done on return.
void upload(CUdeviceptr to, const void *from, int64_t bytes);

/// Hands out parts of blocks which it keeps. What is freed may be handed out again at once: all use
/// is on one stream.
class DeviceHeap {
public:
  CUdeviceptr allocate(int64_t bytes);
  /// Throws Failure for what is no live buffer.
  void free(CUdeviceptr address);
  /// First address and size of the live buffer that holds `address` or ends there; 0, 0 where
  /// there is none.
  std::pair<CUdeviceptr, int64_t> find(CUdeviceptr address) const;
  bool owns(CUdeviceptr address) const;
  /// Frees everything, and keeps the blocks.
  void clear();

private:
  void addFree(CUdeviceptr address, int64_t bytes);
  std::vector<DeviceBlock> blocks;
  std::map<CUdeviceptr, int64_t> unused; ///< By address; neighbours in a block are joined.
  std::map<CUdeviceptr, int64_t> live;
};

/// Memory for results that callers hold on the device, kept for the next ones of similar size.
class TensorPool : public DeviceTensorOwner {
public:
  explicit TensorPool(std::shared_ptr<Context> context) : context(std::move(context)) {}
  ~TensorPool() override;
  CUdeviceptr allocate(int64_t bytes);
  void release(void *address, int64_t bytes) noexcept override;
  void read(const void *address, void *host, int64_t bytes) override;

private:
  void trim() noexcept;
  std::shared_ptr<Context> context;
  std::mutex mutex;
  std::multimap<int64_t, CUdeviceptr> unused; ///< By size.
};

inline CUdeviceptr deviceAddress(const void *address) {
  return CUdeviceptr(reinterpret_cast<uintptr_t>(address));
}
inline void *pointerTo(CUdeviceptr address) { return reinterpret_cast<void *>(uintptr_t(address)); }

} // namespace lowbit::runtime::cuda

#endif // LOWBIT_LIB_RUNTIME_CUDAMEMORY_H
