//===- EmulatedKernel.h - runs a kernel that is written down in the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TEST_INTEGRATION_CUDA_EMULATEDKERNEL_H
#define LOWBIT_TEST_INTEGRATION_CUDA_EMULATEDKERNEL_H

#include "lowbit-c/Emulator.h"
#include <string>
#include <vector>

namespace lowbit::test {

template <typename T>
lowbit_emu_argument readable(const std::vector<T> &values) {
  return {LOWBIT_EMU_READ, 0, 0, const_cast<T *>(values.data()), values.size() * sizeof(T)};
}
template <typename T>
lowbit_emu_argument writable(std::vector<T> &values) {
  return {LOWBIT_EMU_READ_WRITE, 0, 0, values.data(), values.size() * sizeof(T)};
}

/// A kernel `k` of two pointers to global memory, %in and %out, of the body that is given, through
/// lowbit-emit-cuda. The body may use
///   %tid, %bid     numbers of the thread and the block, i32
///   %shared        the start of shared memory
///   %x             word %tid of %in, and %r, stored to word %tid of %out, where `perThread`
///   %c0, %c1, %c32, %all (-1)
class EmulatedKernel {
public:
  explicit EmulatedKernel(const std::string &body, bool perThread = false,
                          const std::string &parameters = "%in: !llvm.ptr<1>, %out: !llvm.ptr<1>");
  ~EmulatedKernel();

  /// "" or what went wrong, in compilation or now.
  std::string run(std::vector<lowbit_emu_argument> arguments, uint32_t threads = 32,
                  uint32_t blocks = 1, uint32_t flags = 0, uint64_t seed = 1);

  std::string error; // of compilation
  lowbit_emu_statistics statistics = {};

private:
  lowbit_emulator *emulator = nullptr;
};

} // namespace lowbit::test

#endif // LOWBIT_TEST_INTEGRATION_CUDA_EMULATEDKERNEL_H
