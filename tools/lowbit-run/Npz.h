//===- Npz.h - arrays in .npz files -----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TOOLS_LOWBIT_RUN_NPZ_H
#define LOWBIT_TOOLS_LOWBIT_RUN_NPZ_H

#include "lowbit-c/Runtime.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lowbit::tool {

/// A reason to end the program: its exit code and one line of text.
struct Error {
  int code;
  std::string message;
};

/// An array read from a file.
struct Array {
  std::string name;
  lowbit_dtype dtype;
  std::vector<int64_t> shape;
  /// First index fastest, as numpy's fortran_order.
  bool columnMajor = false;
  std::unique_ptr<char[]> data;

  /// A view of this array.
  lowbit_tensor tensor() const;
};

/// Reads all arrays of an .npz file (stored or deflated). Throws Error for damaged files, arrays of
/// more than LOWBIT_MAX_RANK dimensions, and element types that no model takes.
std::vector<Array> readNpz(const std::string &path);

struct NamedTensor {
  std::string name;
  /// Row-major.
  const lowbit_tensor *tensor;
};

/// Writes an .npz file that appears whole or not at all; an existing one is replaced only where
/// `force` is set. The same arrays give the same bytes. Throws Error.
void writeNpz(const std::string &path, const std::vector<NamedTensor> &arrays, bool force);

/// 'text' on one line.
std::string inQuotes(const std::string &text);

} // namespace lowbit::tool

#endif // LOWBIT_TOOLS_LOWBIT_RUN_NPZ_H
