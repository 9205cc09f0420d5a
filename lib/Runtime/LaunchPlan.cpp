//===- LaunchPlan.cpp - the launches of a run, for inputs of one set of shapes -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "LaunchPlan.h"

#include "ArenaLayout.h"
#include "Failure.h"

namespace lowbit::runtime {

void LaunchPlan::layOutBuffers() {
  std::vector<ArenaItem> items;
  std::vector<PlanBuffer *> owners;
  totalBytes = 0;
  for (PlanBuffer &buffer : buffers) {
    if (buffer.output >= 0 || buffer.first > buffer.last)
      continue;
    items.push_back({buffer.bytes, buffer.first, buffer.last});
    owners.push_back(&buffer);
    totalBytes += buffer.bytes;
  }
  arenaBytes = layOut(items);
  for (size_t i = 0; i < items.size(); ++i)
    owners[i]->offset = items[i].offset;
}

int64_t LaunchPlan::bytesFrom(const PlanAddress &address) const {
  switch (address.space) {
  case PlanAddress::Buffer:
    return buffers[size_t(address.index)].bytes - address.offset;
  case PlanAddress::Input:
    return inputBytes[size_t(address.index)] - address.offset;
  case PlanAddress::Constants:
    return int64_t(constants.size()) - address.offset;
  case PlanAddress::Weights:
    break;
  }
  fail(LOWBIT_INTERNAL, "the size of a weight is asked of a plan");
}

} // namespace lowbit::runtime
