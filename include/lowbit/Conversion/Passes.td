//===- Passes.td - passes of lib/Conversion ---------------*- tablegen -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
// One name, four places: def FuseQDQ = FuseQDQ.cpp = lowbit-fuse-qdq = test/Conversion/fuse-qdq.mlir. Every pass has a
// description with an example taken from its test, and a statistic.

include "mlir/Pass/PassBase.td"
