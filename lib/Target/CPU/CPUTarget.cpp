//===- CPUTarget.cpp - x86-64 processors as a target ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/CPU/CPUTarget.h"
#include "lowbit/Target/CPU/Passes.h"
#include "lowbit/Target/Target.h"
#include "mlir/Pass/PassManager.h"

using namespace lowbit;

namespace {
class CPUTarget : public Target {
  StringRef name() const override { return "cpu"; }
  StringRef defaultArch() const override { return "x86-64-v3"; }
  void buildSchedule(OpPassManager &manager) const override {
    manager.addPass(createScheduleCPU());
  }
  void buildLinalgSchedule(OpPassManager &manager) const override {
    manager.addPass(createScheduleCPUContractions());
  }
};
} // namespace

void lowbit::registerCPUTarget() { registerTarget(std::make_unique<CPUTarget>()); }
