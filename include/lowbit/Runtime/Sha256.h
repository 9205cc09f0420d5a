//===- lowbit/Runtime/Sha256.h - the hash of files in a bundle ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_RUNTIME_SHA256_H
#define LOWBIT_RUNTIME_SHA256_H

#include <cstddef>
#include <memory>
#include <string>

namespace lowbit {

/// SHA-256 of data that comes in pieces.
class Sha256 {
public:
  Sha256();
  ~Sha256();
  void update(const void *data, size_t bytes);
  /// 64 lower-case hexadecimal digits. Ends the computation.
  std::string finish();

private:
  struct State;
  std::unique_ptr<State> state;
};

/// Of one piece of memory.
std::string sha256(const void *data, size_t bytes);

} // namespace lowbit

#endif // LOWBIT_RUNTIME_SHA256_H
