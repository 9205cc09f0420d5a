//===- BundleFiles.h - the files of a bundle, checked and loaded ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_BUNDLEFILES_H
#define LOWBIT_LIB_RUNTIME_BUNDLEFILES_H

#include "Manifest.h"

#include "lowbit-c/Model.h"

#include <map>
#include <optional>
#include <string>

namespace lowbit::runtime {

/// The whole text of a file of at most `limit` bytes. Throws Failure.
std::string readText(const std::string &path, int64_t limit);

/// Checks size and hash of `path` against the manifest. Throws Failure.
void checkFile(const std::string &path, const FileInfo &expected);

/// weights.safetensors mapped for reading. A file changed afterwards by another process changes
/// here too, and one truncated faults: bundles are not edited in place.
class MappedWeights {
public:
  MappedWeights() = default;
  ~MappedWeights();
  MappedWeights(const MappedWeights &) = delete;
  MappedWeights &operator=(const MappedWeights &) = delete;

  /// Maps `path` and checks size, hash and header against the manifest. Throws Failure.
  void open(const std::string &path, const FileInfo &expected, int64_t dataOffset);
  /// The start of the data section.
  const void *data() const { return static_cast<const char *>(base) + offset; }
  int64_t bytes() const { return int64_t(size) - offset; }
  /// How many bytes the weight that holds `address` has from there on; nothing outside of weights.
  std::optional<int64_t> bytesFrom(const void *address) const;

private:
  void *base = nullptr;
  size_t size = 0;
  int64_t offset = 0;
  /// Ends of the weights within the data, by their beginnings.
  std::map<int64_t, int64_t> ends;
};

/// A loaded model.so. Each has its own data, also where one bundle is opened twice.
class ModelLibrary {
public:
  ModelLibrary() = default;
  ~ModelLibrary();
  ModelLibrary(const ModelLibrary &) = delete;
  ModelLibrary &operator=(const ModelLibrary &) = delete;

  /// Checks size and hash of `path` against the manifest and loads it. Throws Failure.
  void open(const std::string &path, const FileInfo &expected);

  void (*init)(const lowbit_callbacks *table, const void *weights, int64_t isa) = nullptr;
  void (*run)(void *const *inputs, void *results) = nullptr;

private:
  /// What is loaded is a private copy in memory.
  int copy = -1;
  void *handle = nullptr;
};

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_BUNDLEFILES_H
