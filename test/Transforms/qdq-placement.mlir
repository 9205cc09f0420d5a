// RUN: split-file %s %t
// RUN: lowbit-opt %t/input.mlir --pass-pipeline='builtin.module(lowbit-apply-recipe{recipe=%t/recipe.yaml},cse)' | FileCheck %t/input.mlir

//--- recipe.yaml
lowbit: 1
rules:
  - match: {name: "*"}
    weights: {type: i8, per: channel}
    activations: {type: u8}

//--- input.mlir
// Only what a layer multiplies is rounded, and once: pooling, Relu, Concat and Reshape between layers work on the float
// values, so nothing is rounded twice; a Concat that feeds a layer has one scale for all its parts.
// CHECK-LABEL: func @placement
func.func @placement(%x: tensor<1x1x4x4xf32>) -> (tensor<1x2x2x2xf32>, tensor<1x1x2x2xf32>, tensor<1x1xf32>) {
  // CHECK: %[[Q0:.*]] = lowbit.quantize %arg0
  // CHECK: %[[D0:.*]] = lowbit.dequantize %[[Q0]]
  // CHECK: %[[Y:.*]] = "onnx.Conv"(%[[D0]],
  // CHECK-NEXT: %[[R:.*]] = "onnx.Relu"(%[[Y]])
  // CHECK-NEXT: %[[P:.*]], %{{.*}} = "onnx.MaxPool"(%[[R]])
  // CHECK: %[[Q1:.*]] = lowbit.quantize %[[P]]
  // CHECK: %[[D1:.*]] = lowbit.dequantize %[[Q1]]
  // CHECK: %[[A:.*]] = "onnx.Conv"(%[[D1]],
  // CHECK: %[[B:.*]] = "onnx.Conv"(%[[D1]],
  // CHECK: %[[C:.*]] = "onnx.Concat"(%[[A]], %[[B]], %[[P]])
  // CHECK: %[[F:.*]] = "onnx.Flatten"(%[[C]])
  // CHECK: %[[Q2:.*]] = lowbit.quantize %[[F]]
  // CHECK: %[[D2:.*]] = lowbit.dequantize %[[Q2]]
  // CHECK: "onnx.Gemm"(%[[D2]],
  // CHECK-NOT: lowbit.quantize
  %w0 = "onnx.Constant"() {value = dense<1.0> : tensor<1x1x1x1xf32>} : () -> tensor<1x1x1x1xf32>
  %w1 = "onnx.Constant"() {value = dense<2.0> : tensor<2x1x1x1xf32>} : () -> tensor<2x1x1x1xf32>
  %w2 = "onnx.Constant"() {value = dense<3.0> : tensor<1x1x1x1xf32>} : () -> tensor<1x1x1x1xf32>
  %w3 = "onnx.Constant"() {value = dense<4.0> : tensor<16x1xf32>} : () -> tensor<16x1xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  lowbit.observe %x "c0:input" {channel_axis = 1 : i64, stats = #lowbit.stats<min = -1.0 : f32, max = 1.0 : f32>} : tensor<1x1x4x4xf32>
  %0 = "onnx.Conv"(%x, %w0, %none) {onnx_node_name = "c0"} : (tensor<1x1x4x4xf32>, tensor<1x1x1x1xf32>, none) -> tensor<1x1x4x4xf32>
  %1 = "onnx.Relu"(%0) : (tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32>
  %2, %indices = "onnx.MaxPool"(%1) {kernel_shape = [2, 2], strides = [2, 2]} : (tensor<1x1x4x4xf32>) -> (tensor<1x1x2x2xf32>, none)
  lowbit.observe %2 "c1:input" {channel_axis = 1 : i64, stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32>} : tensor<1x1x2x2xf32>
  lowbit.observe %2 "c2:input" {channel_axis = 1 : i64, stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32>} : tensor<1x1x2x2xf32>
  %3 = "onnx.Conv"(%2, %w1, %none) {onnx_node_name = "c1"} : (tensor<1x1x2x2xf32>, tensor<2x1x1x1xf32>, none) -> tensor<1x2x2x2xf32>
  %4 = "onnx.Conv"(%2, %w2, %none) {onnx_node_name = "c2"} : (tensor<1x1x2x2xf32>, tensor<1x1x1x1xf32>, none) -> tensor<1x1x2x2xf32>
  %5 = "onnx.Concat"(%3, %4, %2) {axis = 1 : si64} : (tensor<1x2x2x2xf32>, tensor<1x1x2x2xf32>, tensor<1x1x2x2xf32>) -> tensor<1x4x2x2xf32>
  %6 = "onnx.Flatten"(%5) {axis = 1 : si64} : (tensor<1x4x2x2xf32>) -> tensor<1x16xf32>
  lowbit.observe %6 "g:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 4.0 : f32>} : tensor<1x16xf32>
  %7 = "onnx.Gemm"(%6, %w3, %none) {onnx_node_name = "g"} : (tensor<1x16xf32>, tensor<16x1xf32>, none) -> tensor<1x1xf32>
  return %3, %4, %7 : tensor<1x2x2x2xf32>, tensor<1x1x2x2xf32>, tensor<1x1xf32>
}
