//===- Npy.h - the header of an .npy file -----------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TOOLS_LOWBIT_RUN_NPY_H
#define LOWBIT_TOOLS_LOWBIT_RUN_NPY_H

#include "lowbit-c/Runtime.h"

#include <cstdint>
#include <string>
#include <vector>

namespace lowbit::tool {

struct NpyHeader {
  lowbit_dtype dtype;
  bool columnMajor;
  std::vector<int64_t> shape;
  /// Bytes of one element, and of the whole array.
  int64_t elementSize, bytes;
};

/// Bytes before the header's text: magic, version, length. Version 1 uses the first ten.
inline constexpr size_t npyPrefixBytes = 12;

/// Bytes from the start of the file to the data, from the file's first npyPrefixBytes (or fewer,
/// where it has no more). 0, with the reason in `error`, if it is no .npy file.
size_t npyDataOffset(const std::string &prefix, std::string &error);

/// Reads what lies before the data. False, with the reason in `error`, for anything that numpy
/// would not write or that is no tensor of a lowbit_dtype.
bool parseNpyHeader(const std::string &text, NpyHeader &header, std::string &error);

/// What lies before the data of a row-major array.
std::string npyHeader(int32_t dtype, const int64_t *shape, int32_t rank);

} // namespace lowbit::tool

#endif // LOWBIT_TOOLS_LOWBIT_RUN_NPY_H
