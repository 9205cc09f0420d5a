//===- Passes.td - passes of lib/Conversion ---------------*- tablegen -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
// One name, four places: def FuseQDQ = FuseQDQ.cpp = lowbit-fuse-qdq = test/Conversion/fuse-qdq.mlir. Every pass has a
// description with an example taken from its test, and a statistic.

include "mlir/Pass/PassBase.td"

def LowbitToLinalg : Pass<"lowbit-to-linalg", "::mlir::ModuleOp"> {
  let summary = "Decomposes every lowbit op into linalg and arith";
  let description = [{
    The specification of the lowbit dialect: what a target's kernels must compute, and what runs where a target has
    none. Leaves no lowbit op. Integers become signless with at least a byte per element (`ui8` and 4-bit types: `i8`);
    at ops that keep another type an `unrealized_conversion_cast` remains. `lowbit.observe` becomes `lowbit_rt.observe`,
    numbered in program order.

    ```mlir
    %q = lowbit.quantize %x scale(%s) zero(%z) : (tensor<4xf32>, tensor<f32>, tensor<ui8>) -> tensor<4xui8>
    // becomes
    %q = linalg.generic … ins(%x : tensor<4xf32>) outs(%0 : tensor<4xi8>) {
      %1 = arith.divf %in, %s
      %2 = math.roundeven %1
      …
    ```
  }];
  let statistics = [Statistic<"numDecomposed", "num-decomposed", "Number of ops decomposed">];
  let dependentDialects = ["::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect",
                           "::mlir::linalg::LinalgDialect", "::mlir::math::MathDialect", "::mlir::tensor::TensorDialect",
                           "::lowbit::rt::LowbitRTDialect"];
}
