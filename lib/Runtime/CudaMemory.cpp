//===- CudaMemory.cpp - device and pinned memory -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "CudaMemory.h"

#include "Failure.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

namespace lowbit::runtime::cuda {

/// Of each of the two buffers of upload().
static constexpr int64_t stagingBytes = int64_t(64) << 20;
static constexpr int64_t smallestBlock = int64_t(32) << 20;

DeviceBlock::DeviceBlock(DeviceBlock &&other) noexcept
    : base(std::exchange(other.base, 0)), size(std::exchange(other.size, 0)) {}

DeviceBlock &DeviceBlock::operator=(DeviceBlock &&other) noexcept {
  std::swap(base, other.base);
  std::swap(size, other.size);
  return *this;
}

bool DeviceBlock::reserve(int64_t bytes, const char *purpose) {
  if (bytes <= size)
    return false;
  reset();
  check(driver().cuMemAlloc(&base, size_t(aligned(bytes))),
        "allocating " + std::to_string(bytes) + " bytes on the GPU for " + purpose);
  size = aligned(bytes);
  return true;
}

void DeviceBlock::reset() noexcept {
  if (base)
    driver().cuMemFree(base);
  base = 0;
  size = 0;
}

PinnedBlock::~PinnedBlock() {
  if (memory)
    driver().cuMemFreeHost(memory);
}

void PinnedBlock::reserve(int64_t bytes) {
  if (bytes <= size)
    return;
  if (memory)
    driver().cuMemFreeHost(std::exchange(memory, nullptr));
  size = 0;
  check(driver().cuMemHostAlloc(&memory, size_t(aligned(bytes)), 0),
        "allocating " + std::to_string(bytes) + " bytes of pinned memory");
  size = aligned(bytes);
}

namespace {
/// One of the two buffers of upload().
struct Staging {
  Staging() { check(driver().cuEventCreate(&sent, CU_EVENT_DISABLE_TIMING), "making an event"); }
  ~Staging() { driver().cuEventDestroy(sent); }
  PinnedBlock memory;
  CUevent sent = nullptr;
  bool inUse = false;
};

struct Stream {
  Stream() { check(driver().cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), "making a stream"); }
  ~Stream() {
    driver().cuStreamSynchronize(stream);
    driver().cuStreamDestroy(stream);
  }
  CUstream stream = nullptr;
};
} // namespace

void upload(CUdeviceptr to, const void *from, int64_t bytes) {
  const CudaApi &api = driver();
  Staging ring[2];
  Stream stream;
  auto *source = static_cast<const char *>(from);
  int next = 0;
  for (int64_t at = 0; at < bytes;) {
    Staging &staging = ring[next];
    next = 1 - next;
    int64_t count = std::min(stagingBytes, bytes - at);
    if (staging.inUse)
      check(api.cuEventSynchronize(staging.sent), "sending weights to the GPU");
    staging.memory.reserve(count);
    std::memcpy(staging.memory.data(), source + at, size_t(count));
    check(api.cuMemcpyHtoDAsync(to + CUdeviceptr(at), staging.memory.data(), size_t(count),
                                stream.stream),
          "sending weights to the GPU");
    check(api.cuEventRecord(staging.sent, stream.stream), "sending weights to the GPU");
    staging.inUse = true;
    at += count;
  }
  check(api.cuStreamSynchronize(stream.stream), "sending weights to the GPU");
}

void DeviceHeap::addFree(CUdeviceptr address, int64_t bytes) {
  auto isBlockStart = [&](CUdeviceptr at) {
    return std::any_of(blocks.begin(), blocks.end(),
                       [&](const DeviceBlock &block) { return block.address() == at; });
  };
  auto next = unused.lower_bound(address);
  if (next != unused.end() && next->first == address + CUdeviceptr(bytes) &&
      !isBlockStart(next->first)) {
    bytes += next->second;
    next = unused.erase(next);
  }
  if (next != unused.begin() && !isBlockStart(address)) {
    auto before = std::prev(next);
    if (before->first + CUdeviceptr(before->second) == address) {
      before->second += bytes;
      return;
    }
  }
  unused.emplace(address, bytes);
}

CUdeviceptr DeviceHeap::allocate(int64_t bytes) {
  // Nothing has an address of its own, too.
  int64_t size = aligned(std::max<int64_t>(bytes, 1));
  auto best = unused.end();
  for (auto it = unused.begin(); it != unused.end(); ++it)
    if (it->second >= size && (best == unused.end() || it->second < best->second))
      best = it;
  if (best == unused.end()) {
    DeviceBlock block;
    block.reserve(std::max(size, smallestBlock), "the model's buffers");
    blocks.push_back(std::move(block));
    best = unused.emplace(blocks.back().address(), blocks.back().bytes()).first;
  }
  auto [address, room] = *best;
  unused.erase(best);
  if (room > size)
    unused.emplace(address + CUdeviceptr(size), room - size);
  live.emplace(address, bytes);
  return address;
}

void DeviceHeap::free(CUdeviceptr address) {
  auto found = live.find(address);
  if (found == live.end())
    fail(LOWBIT_INTERNAL, "the model frees device memory that it does not have");
  int64_t size = aligned(std::max<int64_t>(found->second, 1));
  live.erase(found);
  addFree(address, size);
}

std::pair<CUdeviceptr, int64_t> DeviceHeap::find(CUdeviceptr address) const {
  auto next = live.upper_bound(address);
  if (next == live.begin())
    return {0, 0};
  auto found = std::prev(next);
  if (address > found->first + CUdeviceptr(found->second))
    return {0, 0};
  return *found;
}

bool DeviceHeap::owns(CUdeviceptr address) const {
  return std::any_of(blocks.begin(), blocks.end(), [&](const DeviceBlock &block) {
    return address >= block.address() && address < block.address() + CUdeviceptr(block.bytes());
  });
}

void DeviceHeap::clear() {
  live.clear();
  unused.clear();
  for (const DeviceBlock &block : blocks)
    unused.emplace(block.address(), block.bytes());
}

/// A quarter of a power of two, and enough.
static int64_t classBytes(int64_t bytes) {
  int64_t power = alignment;
  while (power < bytes / 2)
    power *= 2;
  int64_t step = std::max(alignment, power / 4);
  return std::max((bytes + step - 1) / step * step, alignment);
}

CUdeviceptr TensorPool::allocate(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex);
  int64_t size = classBytes(bytes);
  if (auto found = unused.find(size); found != unused.end()) {
    CUdeviceptr address = found->second;
    unused.erase(found);
    return address;
  }
  Current current(*context);
  CUdeviceptr address = 0;
  CUresult result = driver().cuMemAlloc(&address, size_t(size));
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    trim();
    result = driver().cuMemAlloc(&address, size_t(size));
  }
  check(result, "allocating " + std::to_string(bytes) + " bytes on the GPU for a result");
  return address;
}

void TensorPool::release(void *address, int64_t bytes) noexcept {
  std::lock_guard<std::mutex> lock(mutex);
  try {
    unused.emplace(classBytes(bytes), deviceAddress(address));
  } catch (const std::bad_alloc &) {
    driver().cuMemFree(deviceAddress(address));
  }
}

void TensorPool::read(const void *address, void *host, int64_t bytes) {
  Current current(*context);
  check(driver().cuMemcpyDtoHAsync(host, deviceAddress(address), size_t(bytes), legacyStream()),
        "reading a tensor from the GPU");
  check(driver().cuStreamSynchronize(legacyStream()), "reading a tensor from the GPU");
}

void TensorPool::trim() noexcept {
  for (auto [size, address] : unused)
    driver().cuMemFree(address);
  unused.clear();
}

TensorPool::~TensorPool() {
  guarded([&] {
    Current current(*context);
    trim();
  });
}

} // namespace lowbit::runtime::cuda
