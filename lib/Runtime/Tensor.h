//===- Tensor.h - views of the caller's memory ------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_TENSOR_H
#define LOWBIT_LIB_RUNTIME_TENSOR_H

#include "lowbit-c/Runtime.h"

#include <cstdint>
#include <optional>
#include <string>

namespace lowbit::runtime {

/// Bytes of one element; 0 for a number that is no lowbit_dtype.
int64_t elementSize(int32_t dtype);
/// "f32", …; "dtype 99" for an unknown one.
std::string dtypeName(int32_t dtype);
std::optional<lowbit_dtype> parseDtype(const std::string &name);

/// "2x3x32", "scalar" for rank 0; -1 prints as "?".
std::string shapeText(const int64_t *dims, int64_t rank);

/// Bytes of a row-major tensor; nothing where a size is negative or the product exceeds 2^62.
std::optional<int64_t> byteSize(const int64_t *dims, int64_t rank, int64_t elementSize);

/// Whether the strides are those of a row-major tensor (sizes of 1 may have any).
bool isRowMajor(const int64_t *dims, const int64_t *strides, int64_t rank);
void setRowMajor(const int64_t *dims, int64_t rank, int64_t *strides);

/// Copies a tensor between two views of equal shape. Strides are in elements.
void copyStrided(const void *source, const int64_t *sourceStrides, void *target,
                 const int64_t *targetStrides, const int64_t *dims, int64_t rank,
                 int64_t elementSize);

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_TENSOR_H
