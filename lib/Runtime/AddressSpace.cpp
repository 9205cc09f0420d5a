//===- AddressSpace.cpp - addresses of buffers that host code cannot reach -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "AddressSpace.h"

#include "Failure.h"

#include <sys/mman.h>

namespace lowbit::runtime {

static constexpr size_t reserved = size_t(1) << 42;
static constexpr size_t alignment = 256;

AddressSpace::AddressSpace() {
  void *mapping =
      mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    fail(LOWBIT_NO_MEMORY, "cannot reserve address space to plan a run");
  base = static_cast<char *>(mapping);
}

AddressSpace::~AddressSpace() { munmap(base, reserved); }

void *AddressSpace::add(int64_t bytes) {
  // The end of one buffer is not the beginning of the next.
  if (size_t(bytes) > reserved / 2 || size_t(bytes) + 2 * alignment > reserved - used)
    fail(LOWBIT_NO_MEMORY,
         "out of memory for a device buffer of " + std::to_string(bytes) + " bytes");
  char *address = base + used;
  used += (size_t(bytes) + alignment) / alignment * alignment;
  buffers.emplace(address, Buffer{int64_t(buffers.size()), bytes});
  return address;
}

std::optional<AddressSpace::Place> AddressSpace::find(const void *address) const {
  auto *at = static_cast<const char *>(address);
  auto next = buffers.upper_bound(at);
  if (next == buffers.begin())
    return std::nullopt;
  auto [begin, buffer] = *--next;
  if (at > begin + buffer.bytes)
    return std::nullopt;
  return Place{buffer.number, at - begin};
}

} // namespace lowbit::runtime
