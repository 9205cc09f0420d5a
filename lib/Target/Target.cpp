//===- Target.cpp - the registry of targets ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/Target.h"
#include "mlir/IR/BuiltinOps.h"
#include <map>
#include <mutex>

using namespace lowbit;

Target::~Target() = default;

llvm::Expected<std::vector<DeviceCode>> Target::emit(ModuleOp, StringRef form, StringRef,
                                                     int &exitCode) const {
  exitCode = 2;
  return llvm::createStringError("target " + name() + " has no form called '" + form + "'");
}

llvm::Expected<DeviceProgram> Target::buildDevice(ModuleOp, StringRef, int &exitCode) const {
  exitCode = 2;
  return llvm::createStringError("target " + name() + " has no device code");
}

namespace {
struct Registry {
  std::mutex mutex;
  std::map<std::string, std::unique_ptr<Target>> targets;
};
} // namespace

static Registry &registry() {
  static Registry instance;
  return instance;
}

void lowbit::registerTarget(std::unique_ptr<Target> target) {
  std::lock_guard<std::mutex> lock(registry().mutex);
  std::string name = target->name().str();
  registry().targets.try_emplace(name, std::move(target));
}

const Target *lowbit::findTarget(StringRef name) {
  std::lock_guard<std::mutex> lock(registry().mutex);
  auto found = registry().targets.find(name.str());
  return found == registry().targets.end() ? nullptr : found->second.get();
}

std::string lowbit::targetNames() {
  std::lock_guard<std::mutex> lock(registry().mutex);
  std::string names;
  for (auto &[name, target] : registry().targets)
    names += (names.empty() ? "" : ", ") + name;
  return names;
}
