//===- LowbitRTDialect.cpp - the lowbit_rt dialect ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/OpImplementation.h"

using namespace lowbit;
using namespace lowbit::rt;

#include "lowbit/Dialect/LowbitRT/IR/LowbitRTDialect.cpp.inc"

#define GET_OP_CLASSES
#include "lowbit/Dialect/LowbitRT/IR/LowbitRTOps.cpp.inc"

void LowbitRTDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "lowbit/Dialect/LowbitRT/IR/LowbitRTOps.cpp.inc"
      >();
}

void LaunchOp::getEffects(
    SmallVectorImpl<SideEffects::EffectInstance<MemoryEffects::Effect>> &effects) {
  for (OpOperand &operand : getInputsMutable())
    if (isa<BaseMemRefType>(operand.get().getType()))
      effects.emplace_back(MemoryEffects::Read::get(), &operand);
  for (OpOperand &operand : getOutputsMutable())
    if (isa<BaseMemRefType>(operand.get().getType()))
      effects.emplace_back(MemoryEffects::Write::get(), &operand);
}
