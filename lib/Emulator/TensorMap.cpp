//===- TensorMap.cpp - boxes of tensors, and how shared memory is swizzled ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "TensorMap.h"

using namespace lowbit::emulator;

std::string lowbit::emulator::verifyTensorMap(const lowbit_emu_tensor_map &map) {
  if (map.rank < 1 || map.rank > 5)
    return "a tensor map has 1 to 5 dimensions, not " + std::to_string(map.rank);
  uint32_t size = map.element_bytes;
  if (size != 1 && size != 2 && size != 4 && size != 8)
    return "a tensor map of elements of " + std::to_string(size) + " bytes";
  if (reinterpret_cast<uintptr_t>(map.base) % 16)
    return "the tensor of a map is not aligned to 16 bytes";
  for (uint32_t i = 0; i + 1 < map.rank; ++i)
    if (map.strides[i] % 16)
      return "stride " + std::to_string(map.strides[i]) +
             " of a tensor map is no multiple of 16 bytes";
  for (uint32_t i = 0; i < map.rank; ++i)
    if (!map.sizes[i] || !map.box[i] || map.box[i] > 256)
      return "a dimension of a tensor map is empty, or its box larger than 256";
  uint64_t row = uint64_t(map.box[0]) * size;
  if (row % 16)
    return "rows of " + std::to_string(row) + " bytes in the box of a tensor map";
  if (map.swizzle > LOWBIT_EMU_SWIZZLE_128B || (map.swizzle && row > 16u << map.swizzle))
    return "rows of " + std::to_string(row) + " bytes do not fit the swizzle of their tensor map";
  return "";
}

uint64_t lowbit::emulator::tensorBytes(const lowbit_emu_tensor_map &map) {
  uint64_t last = uint64_t(map.sizes[0]) * map.element_bytes;
  for (uint32_t i = 1; i < map.rank; ++i)
    last += (map.sizes[i] - 1) * map.strides[i - 1];
  return last;
}

uint64_t lowbit::emulator::boxBytes(const lowbit_emu_tensor_map &map) {
  uint64_t bytes = map.element_bytes;
  for (uint32_t i = 0; i < map.rank; ++i)
    bytes *= map.box[i];
  return bytes;
}
