//===- DeviceMachine.h - the NVPTX target machine of a chip ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_DEVICEMACHINE_H
#define LOWBIT_LIB_TARGET_CUDA_DEVICEMACHINE_H

#include "lowbit/Support/LLVM.h"
#include <memory>

namespace llvm {
class TargetMachine;
}

namespace lowbit::cuda {
/// Null after an error at `loc`: an unknown chip.
std::unique_ptr<llvm::TargetMachine> makeDeviceMachine(StringRef chip, Location loc);
} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_DEVICEMACHINE_H
