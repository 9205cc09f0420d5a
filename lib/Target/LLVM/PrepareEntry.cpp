//===- PrepareEntry.cpp - marks the model's entry point ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/LLVM/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace lowbit {
#define GEN_PASS_DEF_PREPAREENTRY
#include "lowbit/Target/LLVM/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct PrepareEntry : public lowbit::impl::PrepareEntryBase<PrepareEntry> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto entry = module.lookupSymbol<func::FuncOp>("main_graph");
    if (!entry) {
      module.emitError("expects a function @main_graph: the model");
      return signalPassFailure();
    }
    Builder builder(&getContext());
    entry.setPublic();
    entry->setAttr("llvm.emit_c_interface", builder.getUnitAttr());
    // Names and symbols are in the manifest; LLVM IR has no place for them.
    entry.removeArgAttrsAttr();
    entry.removeResAttrsAttr();
    for (unsigned i = 0; i < entry.getNumArguments(); ++i)
      entry.setArgAttr(i, "bufferization.writable", builder.getBoolAttr(false));
    module->setAttr("lowbit_rt.num_inputs", builder.getI64IntegerAttr(entry.getNumArguments()));
    numArguments = entry.getNumArguments();
  }
};
} // namespace
