//===- RunMemory.cpp - the buffers of one run -------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "RunMemory.h"

#include <algorithm>
#include <cstdlib>

namespace lowbit::runtime {

/// Lies immediately before the memory handed out, at the end of the padding that aligns it.
struct RunMemory::Block {
  Block *previous, *next;
  int64_t alignment;
  int32_t sizeClass;
  uint64_t lastRun;
};

static constexpr int64_t smallest = 256;

/// Class 4e + q holds buffers of up to smallest · 2^e · (1 + q/4) bytes.
static int64_t classBytes(int sizeClass) {
  int64_t power = smallest << (sizeClass / 4);
  return power + power / 4 * (sizeClass % 4);
}

static int classOf(int64_t bytes, int numClasses) {
  int exponent = 0;
  while (exponent < numClasses / 4 && (smallest << exponent) < bytes)
    ++exponent;
  int sizeClass = std::max(0, 4 * exponent - 3);
  while (sizeClass < numClasses && classBytes(sizeClass) < bytes)
    ++sizeClass;
  return sizeClass;
}

RunMemory::Block *RunMemory::blockOf(void *pointer) {
  return reinterpret_cast<Block *>(static_cast<char *>(pointer) - sizeof(Block));
}

RunMemory::Block *RunMemory::create(int sizeClass, int64_t alignment) noexcept {
  // Multiples of 64, because alignment is at least that.
  int64_t bytes = (classBytes(sizeClass) + alignment - 1) / alignment * alignment + alignment;
  void *base = std::aligned_alloc(size_t(alignment), size_t(bytes));
  if (!base)
    return nullptr;
  Block *block = blockOf(static_cast<char *>(base) + alignment);
  block->previous = block->next = nullptr;
  block->alignment = alignment;
  block->sizeClass = sizeClass;
  block->lastRun = 0;
  return block;
}

void RunMemory::release(void *pointer) noexcept {
  if (pointer)
    std::free(static_cast<char *>(pointer) - blockOf(pointer)->alignment);
}

RunMemory::Block *RunMemory::takeCached(int sizeClass, int64_t alignment) noexcept {
  Block *block = cached[sizeClass];
  if (!block || block->alignment < alignment)
    return nullptr;
  cached[sizeClass] = block->next;
  return block;
}

void *RunMemory::allocate(int64_t bytes, int64_t alignment) noexcept {
  static_assert(sizeof(Block) <= 64, "the header must fit into the smallest alignment");
  alignment = std::max<int64_t>(alignment, 64);
  int sizeClass = classOf(bytes, numClasses);
  if (sizeClass >= numClasses)
    return nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  Block *block = takeCached(sizeClass, alignment);
  if (!block)
    block = create(sizeClass, alignment);
  if (!block) {
    trim(/*all=*/true);
    block = create(sizeClass, alignment);
  }
  if (!block)
    return nullptr;
  block->lastRun = run;
  block->previous = nullptr;
  block->next = live;
  if (live)
    live->previous = block;
  live = block;
  return block + 1;
}

void *RunMemory::allocateDetached(int64_t bytes) noexcept {
  int sizeClass = classOf(bytes, numClasses);
  Block *block = sizeClass < numClasses ? create(sizeClass, 64) : nullptr;
  return block ? block + 1 : nullptr;
}

void RunMemory::free(void *pointer) noexcept {
  if (!pointer)
    return;
  Block *block = blockOf(pointer);
  std::lock_guard<std::mutex> lock(mutex);
  (block->previous ? block->previous->next : live) = block->next;
  if (block->next)
    block->next->previous = block->previous;
  block->next = cached[block->sizeClass];
  cached[block->sizeClass] = block;
}

bool RunMemory::detach(void *pointer, int64_t bytes) noexcept {
  std::lock_guard<std::mutex> lock(mutex);
  for (Block *block = live; block; block = block->next) {
    if (block + 1 != pointer)
      continue;
    if (classBytes(block->sizeClass) < bytes)
      return false;
    (block->previous ? block->previous->next : live) = block->next;
    if (block->next)
      block->next->previous = block->previous;
    return true;
  }
  return false;
}

void RunMemory::trim(bool all) noexcept {
  for (Block *&list : cached) {
    Block **link = &list;
    while (Block *block = *link) {
      if (!all && block->lastRun == run) {
        link = &block->next;
        continue;
      }
      *link = block->next;
      release(block + 1);
    }
  }
}

void RunMemory::trimCache() noexcept {
  std::lock_guard<std::mutex> lock(mutex);
  trim(/*all=*/true);
}

void RunMemory::endRun() noexcept {
  while (live)
    free(live + 1);
  std::lock_guard<std::mutex> lock(mutex);
  trim(/*all=*/false);
  ++run;
}

RunMemory::~RunMemory() {
  endRun();
  trim(/*all=*/true);
}

} // namespace lowbit::runtime
