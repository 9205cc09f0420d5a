//===- RunMemory.h - the buffers of one run ---------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_RUNMEMORY_H
#define LOWBIT_LIB_RUNTIME_RUNMEMORY_H

#include <cstddef>
#include <cstdint>
#include <mutex>

namespace lowbit::runtime {

/// Hands out the buffers of a run and knows them all, so that a run which ends early leaks none.
/// Freed buffers are kept for the next run, which mostly asks for the same sizes: fresh pages from
/// the system cost more than many a layer. What a run did not use is given back at its end.
class RunMemory {
public:
  RunMemory() = default;
  ~RunMemory();
  RunMemory(const RunMemory &) = delete;
  RunMemory &operator=(const RunMemory &) = delete;

  /// At least 64-byte aligned; `alignment` is a power of two of at most 4096. Null where memory is
  /// exhausted. bytes ≥ 0.
  void *allocate(int64_t bytes, int64_t alignment) noexcept;
  void free(void *pointer) noexcept;

  /// Whether `pointer` is a live buffer of this run of at least `bytes` bytes; if so, it is no
  /// longer this run's and is to be given to release().
  bool detach(void *pointer, int64_t bytes) noexcept;
  /// Frees a detached buffer.
  static void release(void *pointer) noexcept;
  /// A buffer that was never part of a run, for release(). Null where memory is exhausted.
  static void *allocateDetached(int64_t bytes) noexcept;

  /// Gives back all memory that no live buffer of the run uses.
  void trimCache() noexcept;
  /// Ends a run: takes back all live buffers and trims what this run did not use.
  void endRun() noexcept;

private:
  struct Block;
  static Block *create(int sizeClass, int64_t alignment) noexcept;
  static Block *blockOf(void *pointer);
  Block *takeCached(int sizeClass, int64_t alignment) noexcept;
  void trim(bool all) noexcept;

  /// Sizes are rounded up to a quarter of a power of two.
  static constexpr int numClasses = 4 * 48;
  std::mutex mutex;
  Block *live = nullptr;
  Block *cached[numClasses] = {};
  uint64_t run = 0;
};

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_RUNMEMORY_H
