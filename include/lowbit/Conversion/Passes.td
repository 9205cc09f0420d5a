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

def ConvertONNXToLowbit : Pass<"lowbit-convert-onnx-to-lowbit", "::mlir::ModuleOp"> {
  let summary = "Brings models that are quantized already into the qdq form";
  let description = [{
    QuantizeLinear and DequantizeLinear (per tensor, per axis, blocked) become `lowbit.quantize` and `lowbit.dequantize` with
    the model's scales and zero points. A Transpose or Reshape of dequantized constants goes to the integers, so that weights
    meet their layer as integers (run `lowbit-fold-constants` after it). MatMulInteger and ConvInteger whose sums are cast to
    f32 become float layers between dequantized operands of scale 1. What the lowbit ops cannot say, such as 8-bit floats,
    stays as it is.

    ```mlir
    %0 = "onnx.DequantizeLinear"(%w, %s, %z) {axis = 0 : si64, block_size = 32 : si64}
       : (tensor<64x8xui4>, tensor<2x8xf32>, tensor<2x8xui4>) -> tensor<64x8xf32>
    // becomes
    %0 = lowbit.dequantize %w scale(%s) zero(%z) {axis = 0 : i64, group = 32 : i64}
       : (tensor<64x8xui4>, tensor<2x8xf32>, tensor<2x8xui4>) -> tensor<64x8xf32>
    ```
  }];
  let statistics = [
    Statistic<"numConverted", "converted", "onnx ops converted">,
    Statistic<"numLeft", "left", "QuantizeLinear and DequantizeLinear left as they are">
  ];
  let dependentDialects = ["::lowbit::LowbitDialect", "::mlir::tensor::TensorDialect"];
}

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
