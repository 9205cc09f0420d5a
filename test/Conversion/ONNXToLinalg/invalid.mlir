// RUN: not lowbit-opt %s --lowbit-convert-onnx-to-linalg 2>&1 | FileCheck %s

// One error lists all of them, each with its reason.
// CHECK: error: 2 node(s) cannot be compiled: odd (com.example.Frobnicate: no such operator), rows (TopK: k is 5, the dim has only 4)
func.func @main_graph(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<5xf32>) {
  %0 = "onnx.Relu"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "onnx.Custom"(%0) {function_name = "Frobnicate", domain_name = "com.example", onnx_node_name = "odd"} : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "onnx.Relu"(%1) : (tensor<4xf32>) -> tensor<4xf32>
  %k = "onnx.Constant"() {value = dense<5> : tensor<1xi64>} : () -> tensor<1xi64>
  %3, %i = "onnx.TopK"(%0, %k) {onnx_node_name = "rows"} : (tensor<4xf32>, tensor<1xi64>) -> (tensor<5xf32>, tensor<5xi64>)
  return %2, %3 : tensor<4xf32>, tensor<5xf32>
}
