//===- EmulatedMemory.h - device memory of one emulated run ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_EMULATEDMEMORY_H
#define LOWBIT_LIB_RUNTIME_EMULATEDMEMORY_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

namespace lowbit::runtime {

/// Buffers that, as on a GPU, host code cannot reach: their pages are accessible only while an
/// Access lives. Addresses are not given out again, fresh memory is rubbish, and freed memory is
/// gone.
class EmulatedMemory {
public:
  /// Every byte of fresh memory: no number that a result could be.
  static constexpr int rubbish = 0x5a;

  /// Throws Failure where the address space cannot be reserved.
  EmulatedMemory();
  ~EmulatedMemory();
  EmulatedMemory(const EmulatedMemory &) = delete;
  EmulatedMemory &operator=(const EmulatedMemory &) = delete;

  void *allocate(int64_t bytes);
  /// Throws Failure for what is no live buffer.
  void free(void *address);
  bool owns(const void *address) const;
  /// First byte and size of the live buffer that holds `address`; nothing where there is none.
  std::optional<std::pair<char *, int64_t>> find(const void *address) const;

  class Access {
  public:
    explicit Access(EmulatedMemory &memory);
    ~Access();
    Access(const Access &) = delete;
    Access &operator=(const Access &) = delete;

  private:
    EmulatedMemory &memory;
  };

private:
  void protect(int flags) noexcept;
  char *base = nullptr;
  size_t used = 0;
  std::map<const char *, int64_t> live;
};

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_EMULATEDMEMORY_H
