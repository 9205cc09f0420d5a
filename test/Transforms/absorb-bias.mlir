// RUN: lowbit-opt %s --lowbit-absorb-bias --split-input-file --verify-diagnostics | FileCheck %s

// Always at least 3: the bias 5 keeps 2, and the reader gains 2 * 3.
// CHECK-LABEL: func @statistics
func.func @statistics(%x: tensor<?x1xf32>) -> tensor<?x1xf32> {
  // CHECK-DAG: %[[B1:.*]] = "onnx.Constant"() <{value = dense<[2.000000e+00, 7.000000e+00]> : tensor<2xf32>}>
  // CHECK-DAG: %[[B2:.*]] = "onnx.Constant"() <{value = dense<7.000000e+00> : tensor<1xf32>}>
  // CHECK-DAG: "onnx.Gemm"(%arg0, %{{.*}}, %[[B1]])
  // CHECK-DAG: lowbit.observe %{{.*}} "b:input" {stats = #lowbit.stats<min = 0.000000e+00 : f32, max = 9.000000e+00 : f32, channel_min = dense<0.000000e+00> : tensor<2xf32>, channel_max = dense<[5.000000e+00, 9.000000e+00]> : tensor<2xf32>
  // CHECK-DAG: "onnx.Gemm"(%{{.*}}, %{{.*}}, %[[B2]])
  %w1 = "onnx.Constant"() {value = dense<1.0> : tensor<1x2xf32>} : () -> tensor<1x2xf32>
  %b1 = "onnx.Constant"() {value = dense<[5.0, 7.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %w2 = "onnx.Constant"() {value = dense<2.0> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  %b2 = "onnx.Constant"() {value = dense<1.0> : tensor<1xf32>} : () -> tensor<1xf32>
  %0 = "onnx.Gemm"(%x, %w1, %b1) : (tensor<?x1xf32>, tensor<1x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
  %1 = "onnx.Relu"(%0) : (tensor<?x2xf32>) -> tensor<?x2xf32>
  lowbit.observe %1 "b:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 9.0 : f32, channel_min = dense<[3.0, 0.0]> : tensor<2xf32>, channel_max = dense<[8.0, 9.0]> : tensor<2xf32>>} : tensor<?x2xf32>
  %2 = "onnx.Gemm"(%1, %w2, %b2) : (tensor<?x2xf32>, tensor<2x1xf32>, tensor<1xf32>) -> tensor<?x1xf32>
  return %2 : tensor<?x1xf32>
}

// -----

// Of a folded batch normalization: mean 7, deviation 1, so at least 4. Pooling does not mind; a MatMul gets an Add.
// CHECK-LABEL: func @moments
func.func @moments(%x: tensor<1x1x4x4xf32>) -> tensor<1x1xf32> {
  // CHECK-DAG: %[[B1:.*]] = "onnx.Constant"() <{value = dense<3.000000e+00> : tensor<1xf32>}>
  // CHECK-DAG: %[[B2:.*]] = "onnx.Constant"() <{value = dense<8.000000e+00> : tensor<1xf32>}>
  // CHECK-DAG: "onnx.Conv"(%arg0, %{{.*}}, %[[B1]])
  // CHECK-DAG: %[[Y:.*]] = "onnx.MatMul"
  // CHECK-DAG: "onnx.Add"(%[[Y]], %[[B2]])
  %w1 = "onnx.Constant"() {value = dense<1.0> : tensor<1x1x1x1xf32>} : () -> tensor<1x1x1x1xf32>
  %b1 = "onnx.Constant"() {value = dense<7.0> : tensor<1xf32>} : () -> tensor<1xf32>
  %w2 = "onnx.Constant"() {value = dense<2.0> : tensor<1x1xf32>} : () -> tensor<1x1xf32>
  %0 = "onnx.Conv"(%x, %w1, %b1) {lowbit.trained_moments = dense<[[7.0], [1.0]]> : tensor<2x1xf32>} : (tensor<1x1x4x4xf32>, tensor<1x1x1x1xf32>, tensor<1xf32>) -> tensor<1x1x4x4xf32>
  %1 = "onnx.Relu"(%0) : (tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32>
  %2 = "onnx.GlobalAveragePool"(%1) : (tensor<1x1x4x4xf32>) -> tensor<1x1x1x1xf32>
  %3 = "onnx.Flatten"(%2) {axis = 1 : si64} : (tensor<1x1x1x1xf32>) -> tensor<1x1xf32>
  %4 = "onnx.MatMul"(%3, %w2) {onnx_node_name = "fc"} : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x1xf32>
  return %4 : tensor<1x1xf32>
}

// -----

// CHECK-LABEL: func @padding
func.func @padding(%x: tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32> {
  // CHECK-DAG: dense<7.000000e+00>
  %w1 = "onnx.Constant"() {value = dense<1.0> : tensor<1x1x1x1xf32>} : () -> tensor<1x1x1x1xf32>
  %b1 = "onnx.Constant"() {value = dense<7.0> : tensor<1xf32>} : () -> tensor<1xf32>
  %w2 = "onnx.Constant"() {value = dense<2.0> : tensor<1x1x3x3xf32>} : () -> tensor<1x1x3x3xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  %0 = "onnx.Conv"(%x, %w1, %b1) {onnx_node_name = "a", lowbit.trained_moments = dense<[[7.0], [1.0]]> : tensor<2x1xf32>} : (tensor<1x1x4x4xf32>, tensor<1x1x1x1xf32>, tensor<1xf32>) -> tensor<1x1x4x4xf32>
  // expected-remark @+1 {{what 'a' always exceeds stays in its bias: at the borders 'b' sums fewer elements of it}}
  %1 = "onnx.Relu"(%0) : (tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32>
  %2 = "onnx.Conv"(%1, %w2, %none) {onnx_node_name = "b", pads = [1, 1, 1, 1]} : (tensor<1x1x4x4xf32>, tensor<1x1x3x3xf32>, none) -> tensor<1x1x4x4xf32>
  return %2 : tensor<1x1x4x4xf32>
}
