// RUN: lowbit-opt %s --lowbit-equalize --split-input-file | FileCheck %s

// Channel 0: rows 16, columns 1, so both become 4; channel 1: 1 and 4 become 2.
// CHECK-LABEL: func @pair
func.func @pair(%x: tensor<?x1x4x4xf32>) -> tensor<?x1x4x4xf32> {
  // CHECK-DAG: %[[W1:.*]] = "onnx.Constant"() <{value = dense<{{\[\[\[\[}}4.000000e+00]]], {{\[\[\[}}-2.000000e+00]]]]> : tensor<2x1x1x1xf32>}> {onnx_name = "w1"}
  // CHECK-DAG: %[[B1:.*]] = "onnx.Constant"() <{value = dense<[5.000000e-01, 2.000000e+00]> : tensor<2xf32>}>
  // CHECK-DAG: %[[W2:.*]] = "onnx.Constant"() <{value = dense<{{\[\[\[\[}}4.000000e+00]], {{\[\[}}2.000000e+00]]]]> : tensor<1x2x1x1xf32>}>
  // CHECK-DAG: %[[Y:.*]] = "onnx.Conv"(%{{.*}}, %[[W1]], %[[B1]])
  // CHECK-DAG: %[[R:.*]] = "onnx.Relu"(%[[Y]])
  // CHECK-DAG: "onnx.Conv"(%[[R]], %[[W2]], %{{.*}})
  %w1 = "onnx.Constant"() {value = dense<[[[[16.0]]], [[[-1.0]]]]> : tensor<2x1x1x1xf32>, onnx_name = "w1"} : () -> tensor<2x1x1x1xf32>
  %b1 = "onnx.Constant"() {value = dense<[2.0, 1.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %w2 = "onnx.Constant"() {value = dense<[[[[1.0]], [[4.0]]]]> : tensor<1x2x1x1xf32>} : () -> tensor<1x2x1x1xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  %0 = "onnx.Conv"(%x, %w1, %b1) {onnx_node_name = "a"} : (tensor<?x1x4x4xf32>, tensor<2x1x1x1xf32>, tensor<2xf32>) -> tensor<?x2x4x4xf32>
  %1 = "onnx.Relu"(%0) : (tensor<?x2x4x4xf32>) -> tensor<?x2x4x4xf32>
  %2 = "onnx.Conv"(%1, %w2, %none) {onnx_node_name = "b"} : (tensor<?x2x4x4xf32>, tensor<1x2x1x1xf32>, none) -> tensor<?x1x4x4xf32>
  return %2 : tensor<?x1x4x4xf32>
}

// -----

// A depthwise convolution has channels on both sides. Made 16, depthwise 1, read 1: all of them become 16^(1/3).
// CHECK-LABEL: func @depthwise
func.func @depthwise(%x: tensor<1x1x4x4xf32>) -> tensor<1x1xf32> {
  // CHECK-DAG: dense<{{\[\[\[\[}}2.5{{[0-9e+]*}}]]], {{\[\[\[}}1.000000e+00]]]]> : tensor<2x1x1x1xf32>}> {onnx_name = "w1"}
  // CHECK-DAG: dense<{{\[\[\[\[}}2.5{{[0-9e+]*}}]]], {{\[\[\[}}1.000000e+00]]]]> : tensor<2x1x1x1xf32>}> {onnx_name = "w2"}
  // CHECK-DAG: dense<{{\[\[}}2.5{{[0-9e+]*}}], [1.000000e+00]]> : tensor<2x1xf32>}> {onnx_name = "w3"}
  %w1 = "onnx.Constant"() {value = dense<[[[[16.0]]], [[[1.0]]]]> : tensor<2x1x1x1xf32>, onnx_name = "w1"} : () -> tensor<2x1x1x1xf32>
  %w2 = "onnx.Constant"() {value = dense<[[[[1.0]]], [[[1.0]]]]> : tensor<2x1x1x1xf32>, onnx_name = "w2"} : () -> tensor<2x1x1x1xf32>
  %w3 = "onnx.Constant"() {value = dense<[[1.0], [1.0]]> : tensor<2x1xf32>, onnx_name = "w3"} : () -> tensor<2x1xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  %0 = "onnx.Conv"(%x, %w1, %none) : (tensor<1x1x4x4xf32>, tensor<2x1x1x1xf32>, none) -> tensor<1x2x4x4xf32>
  %1 = "onnx.Relu"(%0) : (tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %2 = "onnx.Conv"(%1, %w2, %none) {group = 2 : si64} : (tensor<1x2x4x4xf32>, tensor<2x1x1x1xf32>, none) -> tensor<1x2x4x4xf32>
  %3 = "onnx.GlobalAveragePool"(%2) : (tensor<1x2x4x4xf32>) -> tensor<1x2x1x1xf32>
  %4 = "onnx.Flatten"(%3) {axis = 1 : si64} : (tensor<1x2x1x1xf32>) -> tensor<1x2xf32>
  %5 = "onnx.Gemm"(%4, %w3, %none) : (tensor<1x2xf32>, tensor<2x1xf32>, none) -> tensor<1x1xf32>
  return %5 : tensor<1x1xf32>
}

// -----

// Both branches of the residual Add and both readers move together: made at most 16 and 4, read at most 1 and 4.
// CHECK-LABEL: func @residual
func.func @residual(%x: tensor<1x1xf32>) -> (tensor<1x1xf32>, tensor<1x1xf32>) {
  // CHECK-DAG: dense<{{\[\[}}4.000000e+00, 2.000000e+00]]> : tensor<1x2xf32>}> {onnx_name = "a"}
  // CHECK-DAG: dense<{{\[\[}}2.000000e+00, 4.000000e+00]]> : tensor<1x2xf32>}> {onnx_name = "b"}
  // CHECK-DAG: dense<4.000000e+00> : tensor<2x1xf32>}> {onnx_name = "c"}
  // CHECK-DAG: dense<{{\[\[}}2.000000e+00], [1.000000e+00]]> : tensor<2x1xf32>}> {onnx_name = "d"}
  %a = "onnx.Constant"() {value = dense<[[16.0, 2.0]]> : tensor<1x2xf32>, onnx_name = "a"} : () -> tensor<1x2xf32>
  %b = "onnx.Constant"() {value = dense<[[8.0, 4.0]]> : tensor<1x2xf32>, onnx_name = "b"} : () -> tensor<1x2xf32>
  %c = "onnx.Constant"() {value = dense<[[1.0], [4.0]]> : tensor<2x1xf32>, onnx_name = "c"} : () -> tensor<2x1xf32>
  %d = "onnx.Constant"() {value = dense<[[0.5], [1.0]]> : tensor<2x1xf32>, onnx_name = "d"} : () -> tensor<2x1xf32>
  %0 = "onnx.MatMul"(%x, %a) : (tensor<1x1xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %1 = "onnx.MatMul"(%x, %b) : (tensor<1x1xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %2 = "onnx.Add"(%0, %1) : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %3 = "onnx.Relu"(%2) : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %4 = "onnx.MatMul"(%3, %c) : (tensor<1x2xf32>, tensor<2x1xf32>) -> tensor<1x1xf32>
  %5 = "onnx.MatMul"(%3, %d) : (tensor<1x2xf32>, tensor<2x1xf32>) -> tensor<1x1xf32>
  return %4, %5 : tensor<1x1xf32>, tensor<1x1xf32>
}

// -----

// What a Sigmoid reads, and what the caller sees, keeps its scale.
// CHECK-LABEL: func @fixed
func.func @fixed(%x: tensor<1x1xf32>) -> (tensor<1x2xf32>, tensor<1x1xf32>) {
  // CHECK-DAG: dense<{{\[\[}}1.600000e+01, 1.000000e+00]]> : tensor<1x2xf32>
  // CHECK-DAG: dense<1.000000e+00> : tensor<2x1xf32>
  %a = "onnx.Constant"() {value = dense<[[16.0, 1.0]]> : tensor<1x2xf32>} : () -> tensor<1x2xf32>
  %c = "onnx.Constant"() {value = dense<[[1.0], [1.0]]> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  %0 = "onnx.MatMul"(%x, %a) : (tensor<1x1xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %1 = "onnx.Sigmoid"(%0) : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %2 = "onnx.MatMul"(%0, %c) : (tensor<1x2xf32>, tensor<2x1xf32>) -> tensor<1x1xf32>
  return %1, %2 : tensor<1x2xf32>, tensor<1x1xf32>
}
