//===- ModelGlobals.h - the three globals of a model ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TARGET_LLVM_MODELGLOBALS_H
#define LOWBIT_LIB_TARGET_LLVM_MODELGLOBALS_H

#include "lowbit/Support/LLVM.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/PatternMatch.h"

namespace mlir {
class LLVMTypeConverter;
}

namespace lowbit {

/// Set once by lowbit_model_init; see include/lowbit-c/Model.h.
inline constexpr StringLiteral kTableGlobal = "lowbit_table";
inline constexpr StringLiteral kWeightsGlobal = "lowbit_weights";
inline constexpr StringLiteral kISAGlobal = "lowbit_isa";

/// On a function: the arguments, counted after the conversion to LLVM, through which alone their memory is reached.
inline constexpr StringLiteral kNoAlias = "lowbit_rt.noalias";

/// Fields of lowbit_callbacks, in its order.
enum class Callback {
  Alloc,
  Free,
  ParallelFor,
  Observe,
  Fail,
  Exchange,
  DeviceAlloc,
  DeviceFree,
  Transfer,
  Enqueue
};

/// Finds or makes the global `name` of `type`.
LLVM::GlobalOp getModelGlobal(ModuleOp module, OpBuilder &builder, StringRef name, Type type);

/// Calls an entry of the callback table; the value is null for those that return nothing.
Value callRuntime(ModuleOp module, OpBuilder &builder, Location loc, Callback callback,
                  ValueRange args);

/// Patterns for the ops that call a device.
void populateDeviceToLLVMPatterns(const LLVMTypeConverter &converter, RewritePatternSet &patterns);

} // namespace lowbit

#endif // LOWBIT_LIB_TARGET_LLVM_MODELGLOBALS_H
