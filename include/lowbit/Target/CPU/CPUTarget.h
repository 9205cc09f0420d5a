//===- CPUTarget.h - x86-64 processors as a target ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TARGET_CPU_CPUTARGET_H
#define LOWBIT_TARGET_CPU_CPUTARGET_H

namespace lowbit {
/// Adds target "cpu" to the registry.
void registerCPUTarget();
} // namespace lowbit

#endif // LOWBIT_TARGET_CPU_CPUTARGET_H
