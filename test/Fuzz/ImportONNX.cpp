//===- ImportONNX.cpp - libFuzzer target on the importer --------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Any bytes are imported and their shapes analysed, or refused with an error. A
// corpus of models: test/Fuzz/Inputs/mutate.py --corpus.
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/ShapeAnalysis.h"
#include "lowbit/Import/ONNX/ImportONNX.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"

/// libMLIR is not built with ASan: its containers have no annotations for their unused capacity.
extern "C" const char *__asan_default_options() {
  return "detect_container_overflow=0:detect_leaks=0:allocator_may_return_null=1";
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  mlir::ScopedDiagnosticHandler quiet(&context, [](mlir::Diagnostic &) { return mlir::success(); });
  llvm::ArrayRef<char> bytes(reinterpret_cast<const char *>(data), size);
  mlir::OwningOpRef<mlir::ModuleOp> module =
      lowbit::importONNX(bytes, "fuzz.onnx", /*directory=*/"", context);
  if (!module)
    return 0;
  for (auto function : module->getOps<mlir::func::FuncOp>()) {
    lowbit::ShapeAnalysis shapes;
    (void)shapes.run(function);
  }
  return 0;
}
