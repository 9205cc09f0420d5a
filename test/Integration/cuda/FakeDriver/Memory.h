//===- Memory.h - device and pinned memory of the fake driver -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TEST_INTEGRATION_CUDA_FAKEDRIVER_MEMORY_H
#define LOWBIT_TEST_INTEGRATION_CUDA_FAKEDRIVER_MEMORY_H

#include <cstddef>
#include <cstdint>
#include <map>

namespace fakecuda {

struct Range {
  char *begin = nullptr;
  size_t bytes = 0;
};

/// Memory that the process reaches only while an Access lives. Addresses are never given out twice,
/// fresh memory is rubbish, freed memory is gone.
class Memory {
public:
  Memory();
  void *allocate(size_t bytes);
  bool free(void *address);
  /// Whether the address was ever given out.
  bool owns(const void *address) const;
  /// The live buffer that holds the address or ends there.
  Range find(const void *address) const;
  /// Whether all of it is in one live buffer.
  bool holds(const void *address, size_t bytes) const;
  size_t liveBytes() const { return total; }
  size_t liveBuffers() const { return live.size(); }

  class Access {
  public:
    explicit Access(Memory &memory);
    ~Access();
    Memory &memory;
  };

private:
  char *base = nullptr;
  size_t used = 0, total = 0;
  std::map<const char *, size_t> live;
};

} // namespace fakecuda

#endif // LOWBIT_TEST_INTEGRATION_CUDA_FAKEDRIVER_MEMORY_H
