//===- EmulatorHalf.h - fused multiply-add of f16 without a library ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_EMULATORHALF_H
#define LOWBIT_LIB_TARGET_CUDA_EMULATORHALF_H

namespace llvm {
class Module;
}

namespace lowbit::cuda {

/// Replaces fma on f16 by exact arithmetic in f64, rounded once. x86's own expansion calls a
/// compiler's run-time library, which emulator.so does not have.
void expandHalfFMA(llvm::Module &module);

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_EMULATORHALF_H
