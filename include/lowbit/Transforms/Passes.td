//===- Passes.td - passes of lib/Transforms ---------------*- tablegen -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
// One name, four places: def FuseQDQ = FuseQDQ.cpp = lowbit-fuse-qdq = test/Transforms/fuse-qdq.mlir. Every pass has a
// description with an example taken from its test, and a statistic.

include "mlir/Pass/PassBase.td"

def InferShapes : Pass<"lowbit-infer-shapes", "::mlir::ModuleOp"> {
  let summary = "Gives every onnx value its shape";
  let description = [{
    Types that the importer left unranked become ranked, with `?` for what only the run will tell. i64 arithmetic on shapes
    (Shape, Gather, Concat, Slice, ...) is followed by value, so a Reshape to a computed shape gets static dims where it
    can. Operands that do not fit together are an error that names the node, what was found and what was expected.

    ```mlir
    %0 = "onnx.Flatten"(%x) {axis = 1 : si64} : (tensor<?x4x8xf32>) -> tensor<*xf32>
    // becomes
    %0 = "onnx.Flatten"(%x) {axis = 1 : si64} : (tensor<?x4x8xf32>) -> tensor<?x32xf32>
    ```
  }];
  let statistics = [
    Statistic<"numStatic", "static", "results with a static shape">,
    Statistic<"numDynamic", "dynamic", "results with a dim that only the run will tell">
  ];
}

def FoldConstants : Pass<"lowbit-fold-constants", "::mlir::ModuleOp"> {
  let summary = "Evaluates onnx ops whose operands are constants";
  let description = [{
    Data movement, integer arithmetic and f32 elementwise ops on constants become constants; so do Shape and what follows
    from it where the dims are static (run `lowbit-infer-shapes` first). Identity goes away, and a Reshape, Expand, Slice
    or Cast that changes nothing.

    ```mlir
    %0 = "onnx.Transpose"(%w) {perm = [1, 0]} : (tensor<2x3xf32>) -> tensor<3x2xf32>   // %w a constant
    // becomes
    %0 = "onnx.Constant"() {value = dense<[[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]> : tensor<3x2xf32>} : () -> tensor<3x2xf32>
    ```
  }];
  let statistics = [
    Statistic<"numFolded", "folded", "ops replaced by constants">,
    Statistic<"numForwarded", "forwarded", "ops that changed nothing">
  ];
}

def FoldBatchNorm : Pass<"lowbit-fold-batch-norm", "::mlir::ModuleOp"> {
  let summary = "Multiplies batch normalization into the layer before it";
  let description = [{
    BatchNormalization whose input is a Conv, ConvTranspose or Gemm with constant weights, used by nothing else, scales
    that layer's weights and bias and goes away. Computed in f64. What cannot be folded gets a remark that says why.

    ```mlir
    %0 = "onnx.Conv"(%x, %w, %none) : (...) -> tensor<?x8x16x16xf32>
    %1 = "onnx.BatchNormalization"(%0, %scale, %b, %mean, %var) : (...) -> tensor<?x8x16x16xf32>
    // becomes
    %1 = "onnx.Conv"(%x, %w_scaled, %b_folded) : (...) -> tensor<?x8x16x16xf32>
    ```
  }];
  let statistics = [
    Statistic<"numFolded", "folded", "batch normalizations folded">,
    Statistic<"numLeft", "left", "batch normalizations left as they are">
  ];
}
