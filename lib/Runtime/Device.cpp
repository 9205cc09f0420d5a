//===- Device.cpp - where kernels run -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Device.h"

#include "Failure.h"

#include <cstdlib>

namespace lowbit::runtime {

Device::~Device() = default;
DeviceRun::~DeviceRun() = default;
PreparedPlan::~PreparedPlan() = default;

LaunchMode launchMode(LaunchMode otherwise) {
  const char *text = std::getenv("LOWBIT_LAUNCH");
  std::string word = text ? text : "";
  if (word.empty())
    return otherwise;
  if (word == "eager")
    return LaunchMode::Eager;
  if (word == "plan")
    return LaunchMode::Plan;
  if (word == "graph")
    return LaunchMode::Graph;
  fail(LOWBIT_INVALID, "LOWBIT_LAUNCH is " + inQuotes(word) + ", expected eager, plan or graph");
}

void DeviceRun::copyResult(const RunTensor &to, const void *from) {
  if (to.onDevice)
    fail(LOWBIT_INTERNAL, "this device has no memory for results");
  transfer(to.data, from, to.bytes);
}

std::shared_ptr<PreparedPlan> Device::prepare(LaunchPlan plan) {
  return std::make_shared<PreparedPlan>(std::move(plan));
}

void Device::checkTensor(const RunTensor &, const std::string &what) const {
  fail(LOWBIT_UNAVAILABLE, what + " is on a GPU, this device takes and gives CPU memory");
}

double Device::time(PreparedPlan &, const std::vector<RunTensor> &, int64_t) {
  fail(LOWBIT_UNAVAILABLE, "this device has no clock of its own");
}

void Device::read(const RunTensor &, void *) {
  fail(LOWBIT_INTERNAL, "this device has no tensors of its own");
}

void *Device::allocateTensor(int64_t) {
  fail(LOWBIT_UNAVAILABLE, "a result was asked for on a GPU, this device gives CPU memory");
}

} // namespace lowbit::runtime
