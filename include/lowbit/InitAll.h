//===- InitAll.h - registers every dialect and pass; for tools only ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_INITALL_H
#define LOWBIT_INITALL_H

namespace mlir {
class DialectRegistry;
}

namespace lowbit {
/// The dialects onnx, lowbit and lowbit_rt with their interface models, on lowbit's and on upstream
/// ops.
void registerAllDialects(mlir::DialectRegistry &registry);
/// Every lowbit pass and pipeline.
void registerAllPasses();
} // namespace lowbit

#endif // LOWBIT_INITALL_H
