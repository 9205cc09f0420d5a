//===- ONNXDialect.cpp - the onnx dialect -----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/OpImplementation.h"

using namespace lowbit;
using namespace lowbit::onnx;

#include "lowbit/Dialect/ONNX/IR/ONNXDialect.cpp.inc"

void ONNXDialect::initialize() { registerONNXDialectOperations(this); }

#define GET_OP_DEFS_0
#include "lowbit/Dialect/ONNX/IR/ONNXOps.cpp.inc"
