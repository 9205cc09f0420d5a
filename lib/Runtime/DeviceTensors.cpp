//===- DeviceTensors.cpp - device memory that callers hold -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "DeviceTensors.h"

#include "Failure.h"

#include <iterator>
#include <map>
#include <mutex>

namespace lowbit::runtime {

DeviceTensorOwner::~DeviceTensorOwner() = default;

namespace {
struct Held {
  int64_t bytes;
  std::shared_ptr<DeviceTensorOwner> owner;
  int64_t uses = 1;
};
struct Registry {
  std::mutex mutex;
  std::map<const char *, Held> held;
};
} // namespace

/// Never destroyed: callers release tensors when they like, at the end of the process, too.
static Registry &registry() {
  static auto *instance = new Registry;
  return *instance;
}

void addDeviceTensor(void *address, int64_t bytes, std::shared_ptr<DeviceTensorOwner> owner) {
  Registry &all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  all.held[static_cast<const char *>(address)] = {bytes, std::move(owner), 1};
}

void retainDeviceTensor(void *address) {
  Registry &all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  auto found = all.held.find(static_cast<const char *>(address));
  if (found == all.held.end())
    fail(LOWBIT_INVALID, "the tensor is not one that this runtime has on a device");
  ++found->second.uses;
}

void releaseDeviceTensor(void *address) noexcept {
  if (!address)
    return;
  Held held = {};
  {
    Registry &all = registry();
    std::lock_guard<std::mutex> lock(all.mutex);
    auto found = all.held.find(static_cast<const char *>(address));
    if (found == all.held.end() || --found->second.uses > 0)
      return;
    held = std::move(found->second);
    all.held.erase(found);
  }
  held.owner->release(address, held.bytes);
}

void readDeviceTensor(const void *address, void *host, int64_t bytes) {
  auto *at = static_cast<const char *>(address);
  std::shared_ptr<DeviceTensorOwner> owner;
  {
    Registry &all = registry();
    std::lock_guard<std::mutex> lock(all.mutex);
    auto next = all.held.upper_bound(at);
    if (next == all.held.begin() || at > std::prev(next)->first + std::prev(next)->second.bytes)
      fail(LOWBIT_INVALID, "the tensor is not one that this runtime has on a device");
    const auto &[begin, held] = *std::prev(next);
    if (bytes > begin + held.bytes - at)
      fail(LOWBIT_INVALID, "the tensor is larger than its memory on the device");
    owner = held.owner;
  }
  if (bytes > 0)
    owner->read(address, host, bytes);
}

} // namespace lowbit::runtime
