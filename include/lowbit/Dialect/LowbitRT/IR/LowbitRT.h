//===- LowbitRT.h - the lowbit_rt dialect -----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_DIALECT_LOWBITRT_IR_LOWBITRT_H
#define LOWBIT_DIALECT_LOWBITRT_IR_LOWBITRT_H

#include "lowbit/Support/LLVM.h"
#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/DestinationStyleOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "lowbit/Dialect/LowbitRT/IR/LowbitRTDialect.h.inc"

#define GET_OP_CLASSES
#include "lowbit/Dialect/LowbitRT/IR/LowbitRTOps.h.inc"

namespace lowbit::rt {
/// Lets one-shot-bufferize handle `lowbit_rt.launch`, `observe` and `assert`.
void registerBufferizableOpInterfaceExternalModels(DialectRegistry &registry);
} // namespace lowbit::rt

#endif // LOWBIT_DIALECT_LOWBITRT_IR_LOWBITRT_H
