//===- AddressSpace.h - addresses of buffers that host code cannot reach -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_ADDRESSSPACE_H
#define LOWBIT_LIB_RUNTIME_ADDRESSSPACE_H

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

namespace lowbit::runtime {

/// Hands out addresses within a range that the process has reserved and cannot access: numbers
/// that stand for buffers, none of which is ever given out twice.
class AddressSpace {
public:
  /// Throws Failure where no range can be reserved.
  AddressSpace();
  ~AddressSpace();
  AddressSpace(const AddressSpace &) = delete;
  AddressSpace &operator=(const AddressSpace &) = delete;

  struct Place {
    int64_t number; ///< Of the buffer: they count from 0 in the order of add().
    int64_t offset; ///< 0 … its size.
  };

  /// The first address of a new buffer, 256-byte aligned. Throws Failure where it is too large.
  void *add(int64_t bytes);
  bool owns(const void *address) const { return address >= base && address < base + used; }
  /// The buffer that holds `address` or ends there.
  std::optional<Place> find(const void *address) const;

private:
  struct Buffer {
    int64_t number, bytes;
  };
  char *base = nullptr;
  size_t used = 0;
  std::map<const char *, Buffer> buffers;
};

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_ADDRESSSPACE_H
