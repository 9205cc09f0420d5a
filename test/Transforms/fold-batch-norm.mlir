// RUN: lowbit-opt %s --lowbit-fold-batch-norm --split-input-file --verify-diagnostics | FileCheck %s

// factor = scale / sqrt(variance + epsilon) = 2, 3; shift = bias - mean * factor = 1 - 2, 1 - 3.
// CHECK-LABEL: func @conv
func.func @conv(%x: tensor<?x1x4x4xf32>) -> tensor<?x2x4x4xf32> {
  %w = "onnx.Constant"() {value = dense<[[[[1.0]]], [[[10.0]]]]> : tensor<2x1x1x1xf32>, onnx_name = "w"} : () -> tensor<2x1x1x1xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  // CHECK-DAG: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[\[\[\[}}2.000000e+00]]], {{\[\[\[}}3.000000e+01]]]]> : tensor<2x1x1x1xf32>}> {onnx_name = "w"}
  // CHECK-DAG: %[[B:.*]] = "onnx.Constant"() <{value = dense<[-1.000000e+00, -2.000000e+00]> : tensor<2xf32>}>
  // CHECK: %[[Y:.*]] = "onnx.Conv"(%{{.*}}, %[[W]], %[[B]])
  // CHECK-NOT: BatchNormalization
  // CHECK: return %[[Y]]
  %0 = "onnx.Conv"(%x, %w, %none) {onnx_node_name = "c"} : (tensor<?x1x4x4xf32>, tensor<2x1x1x1xf32>, none) -> tensor<?x2x4x4xf32>
  %scale = "onnx.Constant"() {value = dense<[1.0, 1.5]> : tensor<2xf32>} : () -> tensor<2xf32>
  %b = "onnx.Constant"() {value = dense<1.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %mean = "onnx.Constant"() {value = dense<1.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %var = "onnx.Constant"() {value = dense<0.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %1, %m, %v = "onnx.BatchNormalization"(%0, %scale, %b, %mean, %var) {epsilon = 2.500000e-01 : f32} : (tensor<?x2x4x4xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> (tensor<?x2x4x4xf32>, none, none)
  return %1 : tensor<?x2x4x4xf32>
}

// -----

// Gemm: alpha and beta go into the weights and the bias.
// CHECK-LABEL: func @gemm
func.func @gemm(%x: tensor<?x1xf32>) -> tensor<?x2xf32> {
  %w = "onnx.Constant"() {value = dense<[[1.0], [10.0]]> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  %c = "onnx.Constant"() {value = dense<[1.0, 1.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  // CHECK-DAG: "onnx.Constant"() <{value = dense<{{\[\[}}4.000000e+00], [4.000000e+01]]> : tensor<2x1xf32>}>
  // CHECK-DAG: "onnx.Constant"() <{value = dense<6.000000e+00> : tensor<2xf32>}>
  // CHECK: "onnx.Gemm"
  %0 = "onnx.Gemm"(%x, %w, %c) {alpha = 2.0 : f32, beta = 3.0 : f32, transB = 1 : si64} : (tensor<?x1xf32>, tensor<2x1xf32>, tensor<2xf32>) -> tensor<?x2xf32>
  %one = "onnx.Constant"() {value = dense<1.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %zero = "onnx.Constant"() {value = dense<0.0> : tensor<2xf32>} : () -> tensor<2xf32>
  // CHECK-NOT: BatchNormalization
  %1, %m, %v = "onnx.BatchNormalization"(%0, %one, %zero, %zero, %zero) {epsilon = 2.500000e-01 : f32} : (tensor<?x2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> (tensor<?x2xf32>, none, none)
  return %1 : tensor<?x2xf32>
}

// -----

// CHECK-LABEL: func @shared
func.func @shared(%x: tensor<1x1x4x4xf32>) -> (tensor<1x1x4x4xf32>, tensor<1x1x4x4xf32>) {
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<1x1x1x1xf32>} : () -> tensor<1x1x1x1xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  %0 = "onnx.Conv"(%x, %w, %none) {onnx_node_name = "c"} : (tensor<1x1x4x4xf32>, tensor<1x1x1x1xf32>, none) -> tensor<1x1x4x4xf32>
  %one = "onnx.Constant"() {value = dense<1.0> : tensor<1xf32>} : () -> tensor<1xf32>
  // CHECK: "onnx.BatchNormalization"
  // expected-remark @+1 {{batch normalization 'bn' stays: 'c' is used by other layers as well; 'return#0' reads it, which is no Conv, ConvTranspose, Gemm or MatMul}}
  %1, %m, %v = "onnx.BatchNormalization"(%0, %one, %one, %one, %one) {onnx_node_name = "bn"} : (tensor<1x1x4x4xf32>, tensor<1xf32>, tensor<1xf32>, tensor<1xf32>, tensor<1xf32>) -> (tensor<1x1x4x4xf32>, none, none)
  return %0, %1 : tensor<1x1x4x4xf32>, tensor<1x1x4x4xf32>
}

// -----

// MatMul and the Add of its bias: factor 2, shift 1 - 2 · 0.5 = 0.
// CHECK-LABEL: func @matmul
func.func @matmul(%x: tensor<?x1xf32>) -> tensor<?x2xf32> {
  // CHECK-DAG: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[\[}}2.000000e+00, 2.000000e+01]]> : tensor<1x2xf32>}>
  // CHECK-DAG: %[[B:.*]] = "onnx.Constant"() <{value = dense<6.000000e+00> : tensor<2xf32>}>
  // CHECK-DAG: %[[Y:.*]] = "onnx.MatMul"(%arg0, %[[W]])
  // CHECK-DAG: %[[Z:.*]] = "onnx.Add"(%[[Y]], %[[B]]) {lowbit.trained_moments = dense<1.000000e+00> : tensor<2x2xf32>}
  // CHECK: return %[[Z]]
  %w = "onnx.Constant"() {value = dense<[[1.0, 10.0]]> : tensor<1x2xf32>} : () -> tensor<1x2xf32>
  %b = "onnx.Constant"() {value = dense<3.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %0 = "onnx.MatMul"(%x, %w) : (tensor<?x1xf32>, tensor<1x2xf32>) -> tensor<?x2xf32>
  %1 = "onnx.Add"(%0, %b) : (tensor<?x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
  %one = "onnx.Constant"() {value = dense<1.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %half = "onnx.Constant"() {value = dense<0.5> : tensor<2xf32>} : () -> tensor<2xf32>
  %zero = "onnx.Constant"() {value = dense<0.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %2, %m, %v = "onnx.BatchNormalization"(%1, %one, %one, %half, %zero) {epsilon = 2.500000e-01 : f32} : (tensor<?x2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) -> (tensor<?x2xf32>, none, none)
  return %2 : tensor<?x2xf32>
}

// -----

// Nothing before it takes it, so what reads it does: the weights by 2, the bias by 3 · (-1).
// CHECK-LABEL: func @forward
func.func @forward(%x: tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32> {
  // CHECK-DAG: %[[W:.*]] = "onnx.Constant"() <{value = dense<6.000000e+00> : tensor<1x1x1x1xf32>}>
  // CHECK-DAG: %[[B:.*]] = "onnx.Constant"() <{value = dense<-3.000000e+00> : tensor<1xf32>}>
  // CHECK-DAG: %[[R:.*]] = "onnx.Relu"
  // CHECK-DAG: "onnx.Conv"(%[[R]], %[[W]], %[[B]])
  %w = "onnx.Constant"() {value = dense<3.0> : tensor<1x1x1x1xf32>} : () -> tensor<1x1x1x1xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  %one = "onnx.Constant"() {value = dense<1.0> : tensor<1xf32>} : () -> tensor<1xf32>
  %zero = "onnx.Constant"() {value = dense<0.0> : tensor<1xf32>} : () -> tensor<1xf32>
  %0 = "onnx.Relu"(%x) : (tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32>
  %1, %m, %v = "onnx.BatchNormalization"(%0, %one, %one, %one, %zero) {epsilon = 2.500000e-01 : f32} : (tensor<1x1x4x4xf32>, tensor<1xf32>, tensor<1xf32>, tensor<1xf32>, tensor<1xf32>) -> (tensor<1x1x4x4xf32>, none, none)
  %2 = "onnx.Conv"(%1, %w, %none) : (tensor<1x1x4x4xf32>, tensor<1x1x1x1xf32>, none) -> tensor<1x1x4x4xf32>
  return %2 : tensor<1x1x4x4xf32>
}

// -----

// CHECK-LABEL: func @padded
func.func @padded(%x: tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32> {
  %w = "onnx.Constant"() {value = dense<3.0> : tensor<1x1x3x3xf32>} : () -> tensor<1x1x3x3xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  %one = "onnx.Constant"() {value = dense<1.0> : tensor<1xf32>} : () -> tensor<1xf32>
  // CHECK: "onnx.BatchNormalization"
  // expected-remark @+1 {{batch normalization 'bn' stays: its input is not a Conv, ConvTranspose, Gemm or MatMul; it shifts its input, and at the borders 'c' sums fewer elements of it}}
  %1, %m, %v = "onnx.BatchNormalization"(%x, %one, %one, %one, %one) {onnx_node_name = "bn"} : (tensor<1x1x4x4xf32>, tensor<1xf32>, tensor<1xf32>, tensor<1xf32>, tensor<1xf32>) -> (tensor<1x1x4x4xf32>, none, none)
  %2 = "onnx.Conv"(%1, %w, %none) {onnx_node_name = "c", pads = [1, 1, 1, 1]} : (tensor<1x1x4x4xf32>, tensor<1x1x3x3xf32>, none) -> tensor<1x1x4x4xf32>
  return %2 : tensor<1x1x4x4xf32>
}
