//===- Pipeline.h - from linalg on tensors to the LLVM dialect ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TARGET_LLVM_PIPELINE_H
#define LOWBIT_TARGET_LLVM_PIPELINE_H

#include "lowbit/Support/LLVM.h"

namespace lowbit {

/// linalg, tensor and lowbit_rt.launch on tensors → the same on buffers that this module frees
/// itself.
void buildBufferizePipeline(OpPassManager &manager);

/// Buffers → LLVM dialect with the model's entry points. Kernels are functions by now.
void buildHostToLLVMPipeline(OpPassManager &manager);

/// What one-shot-bufferize and the conversions need from the registry.
void registerHostPipelineDialects(DialectRegistry &registry);

} // namespace lowbit

#endif // LOWBIT_TARGET_LLVM_PIPELINE_H
