//===- InitAll.cpp - registers every dialect and pass ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/InitAll.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Target/CUDA/Emit.h"
#include "lowbit/Target/CUDA/Passes.h"

void lowbit::registerAllDialects(mlir::DialectRegistry &registry) {
  registry.insert<onnx::ONNXDialect, LowbitDialect, rt::LowbitRTDialect>();
  cuda::registerTranslations(registry);
  rt::registerBufferizableOpInterfaceExternalModels(registry);
}

void lowbit::registerAllPasses() { registerLowbitCUDAPasses(); }
