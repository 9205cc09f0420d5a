//===- lowbit-plugin.cpp - lowbit as a dialect and pass plugin of mlir-opt ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
//   mlir-opt --load-dialect-plugin=LowbitPlugin.so --load-pass-plugin=LowbitPlugin.so
//     --pass-pipeline='builtin.module(lowbit-apply-recipe{recipe=int4}, …)'
//
//===----------------------------------------------------------------------===//
#include "lowbit/InitAll.h"
#include "mlir/Tools/Plugins/DialectPlugin.h"
#include "mlir/Tools/Plugins/PassPlugin.h"

static void registerPlugin(mlir::DialectRegistry *registry) {
  lowbit::registerAllDialects(*registry);
}

extern "C" LLVM_ATTRIBUTE_WEAK ::mlir::DialectPluginLibraryInfo mlirGetDialectPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "Lowbit", "0.1.0", registerPlugin};
}

extern "C" LLVM_ATTRIBUTE_WEAK ::mlir::PassPluginLibraryInfo mlirGetPassPluginInfo() {
  return {MLIR_PLUGIN_API_VERSION, "Lowbit", "0.1.0", lowbit::registerAllPasses};
}
