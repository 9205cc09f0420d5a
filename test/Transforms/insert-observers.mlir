// RUN: lowbit-opt %s --lowbit-insert-observers="recipe=int8" | FileCheck %s
// RUN: lowbit-opt %s --lowbit-insert-observers="recipe=int4" | FileCheck %s --check-prefix=WEIGHTS
// RUN: not lowbit-opt %s --lowbit-insert-observers="recipe=int9" 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: lowbit-opt %s --lowbit-insert-observers="recipe=int8:calibration=entropy" | FileCheck %s

// UNKNOWN: error: no recipe 'int9': neither a file nor one of fp32, {{.*}}; did you mean 'int8'?

// Integer layers get an observer on their input; how a range is chosen from what it sees does not matter. Embeddings
// and products of two activations have none. Channels of a convolution's input are axis 1.

// CHECK-LABEL: func.func @main_graph
// WEIGHTS-NOT: lowbit.observe
func.func @main_graph(%ids: tensor<3xi64>) -> tensor<3x3xf32> {
  %table = "onnx.Constant"() {value = dense<1.0> : tensor<5x4xf32>} : () -> tensor<5x4xf32>
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<4x4xf32>} : () -> tensor<4x4xf32>
  // CHECK: %[[X:.*]] = "onnx.Gather"
  %x = "onnx.Gather"(%table, %ids) {onnx_node_name = "emb"} : (tensor<5x4xf32>, tensor<3xi64>) -> tensor<3x4xf32>
  // CHECK-NEXT: lowbit.observe %[[X]] "fc:input" : tensor<3x4xf32>
  // CHECK-NEXT: "onnx.MatMul"(%[[X]]
  %y = "onnx.MatMul"(%x, %w) {onnx_node_name = "fc"} : (tensor<3x4xf32>, tensor<4x4xf32>) -> tensor<3x4xf32>
  // CHECK-NEXT: "onnx.Transpose"
  // CHECK-NEXT: "onnx.MatMul"
  %t = "onnx.Transpose"(%y) {perm = [1, 0]} : (tensor<3x4xf32>) -> tensor<4x3xf32>
  %z = "onnx.MatMul"(%y, %t) {onnx_node_name = "scores"} : (tensor<3x4xf32>, tensor<4x3xf32>) -> tensor<3x3xf32>
  return %z : tensor<3x3xf32>
}

// CHECK-LABEL: func.func @conv
func.func @conv(%x: tensor<1x2x8x8xf32>) -> tensor<1x3x8x8xf32> {
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<3x2x1x1xf32>} : () -> tensor<3x2x1x1xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  // CHECK: lowbit.observe %arg0 "conv:input" {channel_axis = 1 : i64} : tensor<1x2x8x8xf32>
  %y = "onnx.Conv"(%x, %w, %none) {onnx_node_name = "conv"} : (tensor<1x2x8x8xf32>, tensor<3x2x1x1xf32>, none) -> tensor<1x3x8x8xf32>
  return %y : tensor<1x3x8x8xf32>
}
