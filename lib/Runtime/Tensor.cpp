//===- Tensor.cpp - views of the caller's memory ----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Tensor.h"

#include <cstring>

namespace lowbit::runtime {

namespace {
struct DtypeInfo {
  lowbit_dtype dtype;
  const char *name;
  int64_t size;
};
} // namespace

static constexpr DtypeInfo dtypes[] = {{LOWBIT_F32, "f32", 4},
                                       {LOWBIT_U8, "u8", 1},
                                       {LOWBIT_I8, "i8", 1},
                                       {LOWBIT_U16, "u16", 2},
                                       {LOWBIT_I16, "i16", 2},
                                       {LOWBIT_I32, "i32", 4},
                                       {LOWBIT_I64, "i64", 8},
                                       {LOWBIT_BOOL, "bool", 1},
                                       {LOWBIT_F16, "f16", 2},
                                       {LOWBIT_F64, "f64", 8},
                                       {LOWBIT_U32, "u32", 4},
                                       {LOWBIT_U64, "u64", 8},
                                       {LOWBIT_BF16, "bf16", 2},
                                       {LOWBIT_F8E4M3FN, "f8e4m3fn", 1},
                                       {LOWBIT_F8E4M3FNUZ, "f8e4m3fnuz", 1},
                                       {LOWBIT_F8E5M2, "f8e5m2", 1},
                                       {LOWBIT_F8E5M2FNUZ, "f8e5m2fnuz", 1},
                                       {LOWBIT_U4, "u4", 1},
                                       {LOWBIT_I4, "i4", 1},
                                       {LOWBIT_F4E2M1, "f4e2m1", 1},
                                       {LOWBIT_F8E8M0, "f8e8m0", 1},
                                       {LOWBIT_U2, "u2", 1},
                                       {LOWBIT_I2, "i2", 1},
                                       {LOWBIT_F6E2M3, "f6e2m3", 1},
                                       {LOWBIT_F6E3M2, "f6e3m2", 1}};

int64_t elementSize(int32_t dtype) {
  for (const DtypeInfo &info : dtypes)
    if (info.dtype == dtype)
      return info.size;
  return 0;
}

std::string dtypeName(int32_t dtype) {
  for (const DtypeInfo &info : dtypes)
    if (info.dtype == dtype)
      return info.name;
  return "dtype " + std::to_string(dtype);
}

std::optional<lowbit_dtype> parseDtype(const std::string &name) {
  for (const DtypeInfo &info : dtypes)
    if (name == info.name)
      return info.dtype;
  return std::nullopt;
}

std::string shapeText(const int64_t *dims, int64_t rank) {
  if (rank == 0)
    return "scalar";
  std::string text;
  for (int64_t i = 0; i < rank; ++i)
    text += (i ? "x" : "") + (dims[i] == -1 ? "?" : std::to_string(dims[i]));
  return text;
}

std::optional<int64_t> byteSize(const int64_t *dims, int64_t rank, int64_t elementSize) {
  int64_t bytes = elementSize;
  bool empty = false, overflow = false;
  for (int64_t i = 0; i < rank; ++i) {
    if (dims[i] < 0)
      return std::nullopt;
    empty |= dims[i] == 0;
    overflow |= dims[i] != 0 && __builtin_mul_overflow(bytes, dims[i], &bytes);
  }
  if (empty)
    return 0;
  if (overflow || bytes > (int64_t(1) << 62))
    return std::nullopt;
  return bytes;
}

bool isRowMajor(const int64_t *dims, const int64_t *strides, int64_t rank) {
  // Unsigned: beside a size of 0 the others may be as large as they like.
  uint64_t expected = 1;
  bool rowMajor = true;
  for (int64_t i = rank - 1; i >= 0; --i) {
    if (dims[i] == 0)
      return true;
    rowMajor &= dims[i] == 1 || uint64_t(strides[i]) == expected;
    expected *= uint64_t(dims[i]);
  }
  return rowMajor;
}

void setRowMajor(const int64_t *dims, int64_t rank, int64_t *strides) {
  uint64_t stride = 1;
  for (int64_t i = rank - 1; i >= 0; --i) {
    strides[i] = int64_t(stride);
    stride *= uint64_t(dims[i] > 0 ? dims[i] : 1);
  }
}

void copyStrided(const void *source, const int64_t *sourceStrides, void *target,
                 const int64_t *targetStrides, const int64_t *dims, int64_t rank,
                 int64_t elementSize) {
  for (int64_t i = 0; i < rank; ++i)
    if (dims[i] == 0)
      return;
  const char *from = static_cast<const char *>(source);
  char *to = static_cast<char *>(target);
  // One memcpy for the inner dimensions that are row-major in both views.
  int64_t run = elementSize, outer = rank;
  while (outer > 0) {
    int64_t stride = run / elementSize;
    if (dims[outer - 1] != 1 &&
        (sourceStrides[outer - 1] != stride || targetStrides[outer - 1] != stride))
      break;
    run *= dims[--outer];
  }
  int64_t index[LOWBIT_MAX_RANK] = {};
  while (true) {
    std::memcpy(to, from, size_t(run));
    int64_t d = outer - 1;
    for (; d >= 0; --d) {
      from += sourceStrides[d] * elementSize;
      to += targetStrides[d] * elementSize;
      if (++index[d] < dims[d])
        break;
      from -= sourceStrides[d] * elementSize * dims[d];
      to -= targetStrides[d] * elementSize * dims[d];
      index[d] = 0;
    }
    if (d < 0)
      return;
  }
}

} // namespace lowbit::runtime
