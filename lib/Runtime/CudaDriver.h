//===- CudaDriver.h - the CUDA driver, and one GPU's context -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_CUDADRIVER_H
#define LOWBIT_LIB_RUNTIME_CUDADRIVER_H

#include "CudaApi.h"

#include <string>

namespace lowbit::runtime::cuda {

/// The driver: libcuda.so.1, or the file that LOWBIT_CUDA_DRIVER names. Loaded when first asked
/// for, and never unloaded. Throws Failure, LOWBIT_UNAVAILABLE where there is none or it is older
/// than CUDA 12.0.
const CudaApi &driver();

/// Throws Failure for anything but CUDA_SUCCESS. `doing` says what was: "allocating 12 bytes".
void check(CUresult result, const std::string &doing);
/// "CUDA_ERROR_INVALID_VALUE (invalid argument)".
std::string errorText(CUresult result);

/// The primary context of a GPU, which it shares with other libraries of the process.
class Context {
public:
  /// Throws Failure where there is no such GPU, or it is older than all of `architectures` (as in
  /// `--arch`: "sm_80,sm_90a"; the first has PTX beside its code).
  Context(int ordinal, const std::string &architectures);
  ~Context();
  Context(const Context &) = delete;
  Context &operator=(const Context &) = delete;

  const int ordinal;
  CUdevice device = 0;
  CUcontext context = nullptr;
  std::string name;    ///< "NVIDIA H200".
  int capability = 0;  ///< 90 for 9.0.
  int sharedBytes = 0; ///< The most shared memory that a block can have.
};

/// Makes a context the calling thread's while it lives.
class Current {
public:
  explicit Current(const Context &context);
  ~Current();
  Current(const Current &) = delete;
  Current &operator=(const Current &) = delete;
};

} // namespace lowbit::runtime::cuda

#endif // LOWBIT_LIB_RUNTIME_CUDADRIVER_H
