//===- Passes.h - passes of lib/Target/CUDA ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TARGET_CUDA_PASSES_H
#define LOWBIT_TARGET_CUDA_PASSES_H

#include "lowbit/Support/LLVM.h"
#include "mlir/Pass/Pass.h"

namespace lowbit {
#define GEN_PASS_DECL
#include "lowbit/Target/CUDA/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lowbit/Target/CUDA/Passes.h.inc"
} // namespace lowbit

#endif // LOWBIT_TARGET_CUDA_PASSES_H
