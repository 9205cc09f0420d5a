//===- Manifest.h - what a bundle says about itself -------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_MANIFEST_H
#define LOWBIT_LIB_RUNTIME_MANIFEST_H

#include "lowbit-c/Runtime.h"

#include <cstdint>
#include <string>
#include <vector>

namespace lowbit::runtime {

struct ValueInfo {
  std::string name;
  lowbit_dtype dtype;
  std::vector<int64_t> dims;
  std::vector<std::string> symbols;
};

struct FileInfo {
  std::string sha256;
  int64_t bytes;
};

/// A kernel of a bundle for a device.
struct KernelInfo {
  std::string name;
  /// One letter per parameter: `p` an address on the device, `n` a number.
  std::string parameters;
  int64_t sharedBytes; ///< Dynamic shared memory of a block.
};

/// The fields of manifest.json that running needs; the others are for readers of the text.
struct Manifest {
  std::string target; ///< "cpu" or "cuda".
  std::string arch;
  std::vector<std::string> isa;
  FileInfo model, weights;
  int64_t weightsOffset;
  std::vector<ValueInfo> inputs, outputs;
  // Of a bundle for a device alone.
  std::vector<KernelInfo> kernels;
  FileInfo fatbin, emulator;
  std::string deviceArch; ///< As in `--arch`: "sm_80,sm_90a".
  /// The host waits for values that the device computes: runs cannot be planned.
  bool synchronizes = false;
  /// For each input, whether the host reads its values: plans are for these values.
  std::vector<char> hostReads;

  /// The kernel that the model launches. Throws Failure where there is no such kernel, or it cannot
  /// be launched with so many arguments or this shape (see lowbit-c/Model.h).
  const KernelInfo &checkLaunch(int64_t kernel, const int64_t *shape, int64_t arguments) const;
};

/// Checks every field that it reads. Throws Failure: LOWBIT_INVALID for damage, LOWBIT_UNSUPPORTED
/// for a bundle made for something else than this runtime.
Manifest parseManifest(const std::string &text);

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_MANIFEST_H
