//===- Runtimes.h - what other runtimes can represent -----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EXPORT_ONNX_RUNTIMES_H
#define LOWBIT_LIB_EXPORT_ONNX_RUNTIMES_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/BuiltinOps.h"

namespace lowbit::onnx {

/// The rules of one runtime.
struct Runtime {
  StringRef name;
  bool symmetricOnly;   ///< Signed types with zero points of 0.
  bool integerBias;     ///< Reads a DequantizeLinear of i32; else biases are float.
  bool wholeBlocksOnly; ///< The number of weights along K is a multiple of the block.
  bool bits16;          ///< Takes 16-bit types.
};

/// Null for an unknown name.
const Runtime *findRuntime(StringRef name);

/// Fails, after one diagnostic at the module that lists the layers, where `runtime` cannot
/// represent what the qdq form says.
LogicalResult checkRuntime(ModuleOp module, const Runtime &runtime);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_EXPORT_ONNX_RUNTIMES_H
