//===- Generators.h - the kernel families ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Each generator appends a gpu.module with one kernel. Parameters, in this order: the launch's
// inputs (activations, packed weights, parameter block …), its outputs, the number of rows as i32.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_GENERATORS_H
#define LOWBIT_LIB_TARGET_CUDA_GENERATORS_H

#include "lowbit/Target/CUDA/Schedule.h"

namespace lowbit::cuda {

void generateMmaS8(ModuleOp module, Location loc, StringRef name, const Schedule &schedule);
/// cuda.mma_f16 and cuda.w4a16.
void generateMmaF16(ModuleOp module, Location loc, StringRef name, const Schedule &schedule);
void generateCombine(ModuleOp module, Location loc, StringRef name, const Schedule &schedule);
/// cuda.gemv, for all widths of weights.
void generateGemv(ModuleOp module, Location loc, StringRef name, const Schedule &schedule);
void generateGather(ModuleOp module, Location loc, StringRef name, const Schedule &schedule);
void generateRowQuant(ModuleOp module, Location loc, StringRef name, const Schedule &schedule);
void generateDepthwiseS8(ModuleOp module, Location loc, StringRef name, const Schedule &schedule);
void generateDirectS8(ModuleOp module, Location loc, StringRef name, const Schedule &schedule);

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_GENERATORS_H
