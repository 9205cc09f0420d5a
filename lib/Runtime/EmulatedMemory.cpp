//===- EmulatedMemory.cpp - device memory of one emulated run ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "EmulatedMemory.h"

#include "Failure.h"

#include <cstring>
#include <sys/mman.h>

namespace lowbit::runtime {

/// Address space, not memory.
static constexpr size_t reserved = size_t(1) << 40;
static constexpr size_t page = 4096;

EmulatedMemory::EmulatedMemory() {
  void *mapping = mmap(nullptr, reserved, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    fail(LOWBIT_NO_MEMORY, "cannot reserve address space for the emulated device");
  base = static_cast<char *>(mapping);
}

EmulatedMemory::~EmulatedMemory() { munmap(base, reserved); }

void *EmulatedMemory::allocate(int64_t bytes) {
  // A page of its own each, and one that is never accessible behind it.
  size_t pages = (size_t(bytes) + page - 1) / page * page;
  if (size_t(bytes) > reserved / 2 || pages + 2 * page > reserved - used)
    fail(LOWBIT_NO_MEMORY,
         "out of memory for a device buffer of " + std::to_string(bytes) + " bytes");
  char *address = base + used;
  used += pages + page;
  live[address] = bytes;
  if (mprotect(address, pages, PROT_READ | PROT_WRITE) != 0)
    fail(LOWBIT_NO_MEMORY, "out of memory for the emulated device");
  std::memset(address, rubbish, size_t(bytes));
  mprotect(address, pages, PROT_NONE);
  return address;
}

void EmulatedMemory::free(void *address) {
  auto found = live.find(static_cast<const char *>(address));
  if (found == live.end())
    fail(LOWBIT_INTERNAL, "the model frees device memory that it does not have");
  madvise(address, (size_t(found->second) + page - 1) / page * page, MADV_DONTNEED);
  live.erase(found);
}

bool EmulatedMemory::owns(const void *address) const {
  return address >= base && address < base + used;
}

std::optional<std::pair<char *, int64_t>> EmulatedMemory::find(const void *address) const {
  auto *at = static_cast<const char *>(address);
  auto next = live.upper_bound(at);
  if (next == live.begin())
    return std::nullopt;
  auto [begin, bytes] = *--next;
  // The end counts, too: of an empty buffer there is nothing else.
  if (at > begin + bytes)
    return std::nullopt;
  return std::pair(const_cast<char *>(begin), bytes);
}

void EmulatedMemory::protect(int flags) noexcept {
  for (auto [begin, bytes] : live)
    mprotect(const_cast<char *>(begin), (size_t(bytes) + page - 1) / page * page, flags);
}

EmulatedMemory::Access::Access(EmulatedMemory &memory) : memory(memory) {
  memory.protect(PROT_READ | PROT_WRITE);
}
EmulatedMemory::Access::~Access() { memory.protect(PROT_NONE); }

} // namespace lowbit::runtime
