//===- Destinations.cpp - where the results of a run on a device go -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Destinations.h"

#include "DeviceTensors.h"
#include "Failure.h"
#include "RunMemory.h"
#include "Tensor.h"

#include <algorithm>
#include <utility>

namespace lowbit::runtime {

static void releaseAny(void *data, bool onDevice) {
  if (onDevice)
    releaseDeviceTensor(data);
  else
    RunMemory::release(data);
}

Destinations::~Destinations() {
  for (size_t i = 0; i < owned.size(); ++i)
    releaseAny(owned[i], places[i].onDevice);
}

void Destinations::add(const std::vector<int64_t> &shape, int64_t bytes) {
  size_t i = places.size();
  const lowbit_tensor &out = outputs[i];
  auto rank = int64_t(shape.size());
  if (out.data && !std::equal(shape.begin(), shape.end(), out.shape))
    fail(LOWBIT_INVALID, "output " + inQuotes(manifest.outputs[i].name) + " has room for shape " +
                             shapeText(out.shape, rank) + ", the result has " +
                             shapeText(shape.data(), rank));
  bool onDevice = out.device == LOWBIT_CUDA;
  shapes.push_back(shape);
  owned.push_back(nullptr);
  places.push_back({out.data, bytes, onDevice});
  if (out.data && (onDevice || isRowMajor(out.shape, out.strides, out.rank)))
    return;
  void *memory = onDevice ? device.allocateTensor(bytes) : RunMemory::allocateDetached(bytes);
  if (!memory)
    fail(LOWBIT_NO_MEMORY, "out of memory for a result");
  owned[i] = places[i].data = memory;
}

void Destinations::commit() {
  for (size_t i = 0; i < places.size(); ++i) {
    lowbit_tensor &out = outputs[i];
    const std::vector<int64_t> &shape = shapes[i];
    auto rank = int64_t(shape.size());
    if (out.data) {
      int64_t strides[LOWBIT_MAX_RANK];
      setRowMajor(shape.data(), rank, strides);
      if (owned[i])
        copyStrided(owned[i], strides, out.data, out.strides, shape.data(), rank,
                    elementSize(out.dtype));
      continue;
    }
    out.data = std::exchange(owned[i], nullptr);
    out.dtype = manifest.outputs[i].dtype;
    out.rank = int32_t(rank);
    std::copy(shape.begin(), shape.end(), out.shape);
    setRowMajor(out.shape, out.rank, out.strides);
    out.device = places[i].onDevice ? LOWBIT_CUDA : LOWBIT_CPU;
    out.owned = 1;
  }
}

} // namespace lowbit::runtime
