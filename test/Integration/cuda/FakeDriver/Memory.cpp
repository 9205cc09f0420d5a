//===- Memory.cpp - device and pinned memory of the fake driver -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Memory.h"

#include <cstring>
#include <iterator>
#include <sys/mman.h>

namespace fakecuda {

static constexpr size_t reserved = size_t(1) << 40;
static constexpr size_t page = 4096;
static constexpr int rubbish = 0xa5;

Memory::Memory() {
  base = static_cast<char *>(
      mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

static size_t pages(size_t bytes) { return (bytes + page - 1) / page * page; }

void *Memory::allocate(size_t bytes) {
  char *address = base + used;
  used += pages(bytes) + page;
  live[address] = bytes;
  total += bytes;
  mprotect(address, pages(bytes), PROT_READ | PROT_WRITE);
  std::memset(address, rubbish, bytes);
  mprotect(address, pages(bytes), PROT_NONE);
  return address;
}

bool Memory::free(void *address) {
  auto found = live.find(static_cast<char *>(address));
  if (found == live.end())
    return false;
  madvise(address, pages(found->second), MADV_DONTNEED);
  total -= found->second;
  live.erase(found);
  return true;
}

bool Memory::owns(const void *address) const { return address >= base && address < base + used; }

Range Memory::find(const void *address) const {
  auto *at = static_cast<const char *>(address);
  auto next = live.upper_bound(at);
  if (next == live.begin())
    return {};
  auto [begin, bytes] = *std::prev(next);
  return at <= begin + bytes ? Range{const_cast<char *>(begin), bytes} : Range{};
}

bool Memory::holds(const void *address, size_t bytes) const {
  Range range = find(address);
  return range.begin &&
         bytes <= size_t(range.begin + range.bytes - static_cast<const char *>(address));
}

Memory::Access::Access(Memory &memory) : memory(memory) {
  for (auto [begin, bytes] : memory.live)
    mprotect(const_cast<char *>(begin), pages(bytes), PROT_READ | PROT_WRITE);
}

Memory::Access::~Access() {
  for (auto [begin, bytes] : memory.live)
    mprotect(const_cast<char *>(begin), pages(bytes), PROT_NONE);
}

} // namespace fakecuda
