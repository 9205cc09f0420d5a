//===- Destinations.h - where the results of a run on a device go -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_DESTINATIONS_H
#define LOWBIT_LIB_RUNTIME_DESTINATIONS_H

#include "Device.h"

#include "lowbit-c/Runtime.h"

#include <vector>

namespace lowbit::runtime {

/// Row-major memory for each result: the caller's own where that is row-major, else memory that
/// becomes the caller's, or is copied into it, with commit(). Until then, nothing is changed.
class Destinations {
public:
  Destinations(Device &device, const Manifest &manifest, lowbit_tensor *outputs)
      : device(device), manifest(manifest), outputs(outputs) {}
  /// Frees what was not handed over.
  ~Destinations();
  Destinations(const Destinations &) = delete;
  Destinations &operator=(const Destinations &) = delete;

  /// Announces the next result. Throws Failure where it does not fit into the caller's memory.
  void add(const std::vector<int64_t> &shape, int64_t bytes);
  const std::vector<RunTensor> &tensors() const { return places; }
  /// Hands all results over.
  void commit();

private:
  Device &device;
  const Manifest &manifest;
  lowbit_tensor *outputs;
  std::vector<RunTensor> places;
  /// What `places` has that is not the caller's.
  std::vector<void *> owned;
  std::vector<std::vector<int64_t>> shapes;
};

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_DESTINATIONS_H
