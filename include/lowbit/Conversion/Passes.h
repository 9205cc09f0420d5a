//===- Passes.h - passes of lib/Conversion ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_CONVERSION_PASSES_H
#define LOWBIT_CONVERSION_PASSES_H

#include "lowbit/Support/LLVM.h"
#include "mlir/Pass/Pass.h"

namespace lowbit {
#define GEN_PASS_DECL
#include "lowbit/Conversion/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "lowbit/Conversion/Passes.h.inc"

/// Fails with one error that lists every node whose operator has no lowering, by operator with its count. For the
/// model as imported, so that a user learns of all of them at once and before any work is done.
LogicalResult reportUnsupported(ModuleOp module);
} // namespace lowbit

#endif // LOWBIT_CONVERSION_PASSES_H
