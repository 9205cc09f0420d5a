//===- CUDATarget.h - NVIDIA GPUs as a target ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TARGET_CUDA_CUDATARGET_H
#define LOWBIT_TARGET_CUDA_CUDATARGET_H

namespace lowbit {
/// Adds target "cuda" to the registry.
void registerCUDATarget();
} // namespace lowbit

#endif // LOWBIT_TARGET_CUDA_CUDATARGET_H
