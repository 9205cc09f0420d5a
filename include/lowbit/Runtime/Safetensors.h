//===- lowbit/Runtime/Safetensors.h - read and write safetensors ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The format: an 8-byte little-endian header length, a JSON header, the data. What is
// written here has its header padded with spaces, so that the data starts at a multiple
// of 4,096 bytes, and every tensor at a multiple of 64. The gaps are tensors too, named
// "__pad__/N": other readers refuse data that no tensor covers.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_RUNTIME_SAFETENSORS_H
#define LOWBIT_RUNTIME_SAFETENSORS_H

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lowbit {

struct SafetensorsEntry {
  std::string name;
  /// As in the file: "F32", "I8", …
  std::string dtype;
  std::vector<int64_t> shape;
  /// Within the data section; the entry is dtype's size times the shape long.
  uint64_t begin = 0, end = 0;
};

struct SafetensorsHeader {
  /// Where the data section starts in the file.
  uint64_t dataOffset = 0;
  /// In the order of the data, without the padding.
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;

  /// Null where there is none.
  const SafetensorsEntry *find(const std::string &name) const;
};

/// Bytes of one element ("F32" → 4), 0 for an unknown dtype.
int64_t safetensorsElementSize(const std::string &dtype);

/// Reads the header of a file in memory and checks that every entry lies within the data, none
/// overlap and each has the size of its shape. Nothing, with the reason in `error`, for a damaged
/// file.
std::optional<SafetensorsHeader> parseSafetensors(const void *file, uint64_t size,
                                                  std::string &error);

/// Collects tensors and writes them in the order added.
class SafetensorsWriter {
public:
  void setMetadata(const std::string &key, const std::string &value);

  /// Returns where the tensor will start within the data section, a multiple of 64. `data` is not
  /// copied: it must live until write(). Names are unique, UTF-8, and do not start with "__".
  uint64_t add(const std::string &name, const std::string &dtype, std::vector<int64_t> shape,
               const void *data, uint64_t bytes);

  /// Where the data section will start in the file: the manifest's weights_offset.
  uint64_t dataOffset() const;

  /// Writes beside `path` and renames, so that the file appears whole or not at all. False, with
  /// the reason in `error`, where that fails or what was added is not valid.
  bool write(const std::string &path, std::string &error) const;

private:
  struct Tensor {
    SafetensorsEntry entry;
    const void *data;
  };
  std::string header() const;

  std::vector<Tensor> tensors;
  std::map<std::string, std::string> metadata;
  uint64_t size = 0;
};

} // namespace lowbit

#endif // LOWBIT_RUNTIME_SAFETENSORS_H
