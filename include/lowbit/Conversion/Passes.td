//===- Passes.td - passes of lib/Conversion ---------------*- tablegen -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
// One name, four places: def FuseQDQ = FuseQDQ.cpp = lowbit-fuse-qdq = test/Conversion/fuse-qdq.mlir. Every pass has a
// description with an example taken from its test, and a statistic.

include "mlir/Pass/PassBase.td"

def ConvertONNXToLinalg : Pass<"lowbit-convert-onnx-to-linalg", "::mlir::ModuleOp"> {
  let summary = "Lowers the onnx dialect to linalg, tensor and arith";
  let description = [{
    Every onnx op becomes linalg, tensor, arith and math ops on signless element types; ops of other dialects stay as they
    are. Dynamic dims are compared symbolically: where two of them are the same size at every run no code is spent on
    broadcasting, where that cannot be shown it is decided at the run. Indices and shapes that only the run knows are
    checked with `lowbit_rt.assert`, and nothing is read out of bounds where they are wrong.

    Fails with one error that lists every node that cannot be lowered, with the reason.

    ```mlir
    %0 = "onnx.Relu"(%x) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    // becomes
    %d = tensor.dim %x, %c0 : tensor<?x4xf32>
    %e = tensor.empty(%d) : tensor<?x4xf32>
    %0 = linalg.generic {...} ins(%x : tensor<?x4xf32>) outs(%e : tensor<?x4xf32>) {
      %c = arith.cmpf olt, %in, %zero : f32
      %r = arith.select %c, %zero, %in : f32
      linalg.yield %r : f32
    } -> tensor<?x4xf32>
    ```
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect", "::mlir::math::MathDialect",
    "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect", "::lowbit::rt::LowbitRTDialect"
  ];
  let statistics = [Statistic<"numConverted", "converted", "onnx ops converted">];
}
