//===- TemporaryBundle.h - a compiled model that runs here and now ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_DRIVER_TEMPORARYBUNDLE_H
#define LOWBIT_LIB_DRIVER_TEMPORARYBUNDLE_H

#include "lowbit-c/Runtime.h"
#include "llvm/Support/Error.h"
#include <string>

namespace lowbit {

class Compilation;

/// A bundle in a folder of its own among the system's temporary files, which goes away with this.
class TemporaryBundle {
public:
  TemporaryBundle() = default;
  ~TemporaryBundle() { close(); }
  TemporaryBundle(const TemporaryBundle &) = delete;
  TemporaryBundle &operator=(const TemporaryBundle &) = delete;

  /// Writes the bundle of a compilation that is in the LLVM dialect. `purpose` is part of the
  /// folder's name. Once only.
  llvm::Error write(Compilation &compilation, llvm::StringRef purpose);
  /// Opens what was written. What the compiler has freed goes back to the system first.
  /// `threads`: 0 is all cores.
  llvm::Error open(int threads = 0);
  /// Closes the bundle and removes the folder; harmless where there is none.
  void close();

  /// Null before open() and after close().
  lowbit_bundle *get() const { return bundle; }

private:
  std::string folder;
  lowbit_bundle *bundle = nullptr;
};

} // namespace lowbit

#endif // LOWBIT_LIB_DRIVER_TEMPORARYBUNDLE_H
