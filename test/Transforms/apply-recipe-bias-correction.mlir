// RUN: split-file %s %t
// RUN: lowbit-opt %t/input.mlir --pass-pipeline='builtin.module(lowbit-apply-recipe{recipe=%t/recipe.yaml})' | FileCheck %t/input.mlir

//--- recipe.yaml
lowbit: 1
transforms: [{bias-correction: {method: analytic}}]
rules:
  - match: {name: "*"}
    weights: {type: i4, per: channel}

//--- input.mlir
// The scale is 1, so 7 stays and 0.25 becomes 0; its input is 8 in the mean: the bias 1 gains 0.25 · 8.
// CHECK-LABEL: func @gemm
func.func @gemm(%x: tensor<?x2xf32>) -> tensor<?x1xf32> {
  // CHECK-DAG: %[[B:.*]] = "onnx.Constant"() <{value = dense<3.000000e+00> : tensor<1xf32>}>
  // CHECK-DAG: "onnx.Gemm"(%arg0, %{{.*}}, %[[B]])
  %w = "onnx.Constant"() {value = dense<[[7.0], [0.25]]> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  %b = "onnx.Constant"() {value = dense<1.0> : tensor<1xf32>} : () -> tensor<1xf32>
  lowbit.observe %x "g:input" {stats = #lowbit.stats<min = -9.0 : f32, max = 9.0 : f32, channel_mean = dense<[5.0, 8.0]> : tensor<2xf32>>} : tensor<?x2xf32>
  %0 = "onnx.Gemm"(%x, %w, %b) {onnx_node_name = "g"} : (tensor<?x2xf32>, tensor<2x1xf32>, tensor<1xf32>) -> tensor<?x1xf32>
  return %0 : tensor<?x1xf32>
}

// A depthwise filter: each channel by its own mean. 0.25 · 8 twice, -0.25 · 4 once.
// CHECK-LABEL: func @depthwise
func.func @depthwise(%x: tensor<1x2x4x4xf32>) -> tensor<1x2x4x3xf32> {
  // CHECK-DAG: %[[B:.*]] = "onnx.Constant"() <{value = dense<[2.000000e+00, -1.000000e+00]> : tensor<2xf32>}>
  // CHECK-DAG: "onnx.Conv"(%arg0, %{{.*}}, %[[B]])
  %w = "onnx.Constant"() {value = dense<[[[[7.0, 0.25]]], [[[-0.25, 7.0]]]]> : tensor<2x1x1x2xf32>} : () -> tensor<2x1x1x2xf32>
  %b = "onnx.Constant"() {value = dense<0.0> : tensor<2xf32>} : () -> tensor<2xf32>
  lowbit.observe %x "c:input" {channel_axis = 1 : i64, stats = #lowbit.stats<min = -9.0 : f32, max = 9.0 : f32, channel_mean = dense<[8.0, 4.0]> : tensor<2xf32>>} : tensor<1x2x4x4xf32>
  %0 = "onnx.Conv"(%x, %w, %b) {group = 2 : si64, onnx_node_name = "c"} : (tensor<1x2x4x4xf32>, tensor<2x1x1x2xf32>, tensor<2xf32>) -> tensor<1x2x4x3xf32>
  return %0 : tensor<1x2x4x3xf32>
}
