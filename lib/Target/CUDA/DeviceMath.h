//===- DeviceMath.h - arithmetic that a GPU has no instruction for ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_CUDA_DEVICEMATH_H
#define LOWBIT_LIB_TARGET_CUDA_DEVICEMATH_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/Operation.h"

namespace lowbit::cuda {

/// The LLVM intrinsic that the code generator turns into correctly rounded instructions; "" where
/// there is none.
StringRef deviceIntrinsic(Operation *op);

/// Whether lowbit-lower-device-math leaves nothing of `op` to a library. Functions such as log have
/// polynomials for f32 alone.
bool hasDeviceCode(Operation *op);

/// Replaces arith.remf by the exact remainder: long division that subtracts multiples
/// of the divisor by powers of two. True where it did.
bool expandRemainder(Operation *op);

} // namespace lowbit::cuda

#endif // LOWBIT_LIB_TARGET_CUDA_DEVICEMATH_H
