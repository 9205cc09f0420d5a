//===- EmulatorSmallFloats.h - roundings that x86 leaves to a library ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_EMULATORSMALLFLOATS_H
#define LOWBIT_LIB_TARGET_CUDA_EMULATORSMALLFLOATS_H

namespace llvm {
class Module;
}

namespace lowbit::cuda {

/// Defines the functions of a compiler's run-time library that LLVM calls on x86-64-v3 to round to
/// f16 and bf16 (__truncdfhf2, __truncsfbf2, __truncdfbf2): emulator.so has no such library. Every
/// object has them; the linker keeps one.
void defineSmallFloatRoundings(llvm::Module &module);

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_EMULATORSMALLFLOATS_H
