// RUN: lowbit-opt %s --lowbit-infer-shapes --split-input-file --verify-diagnostics | FileCheck %s

// What is dynamic stays so; what follows from it is static.
// CHECK-LABEL: func @main_graph
// CHECK-SAME: -> tensor<?x10xf32>
func.func @main_graph(%x: tensor<?x4x8xf32> {onnx.dim_params = "0:N"}) -> tensor<*xf32> {
  // CHECK: "onnx.Flatten"{{.*}} -> tensor<?x32xf32>
  %0 = "onnx.Flatten"(%x) {axis = 1 : si64} : (tensor<?x4x8xf32>) -> tensor<*xf32>
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<32x10xf32>} : () -> tensor<32x10xf32>
  // CHECK: "onnx.MatMul"{{.*}} -> tensor<?x10xf32>
  %1 = "onnx.MatMul"(%0, %w) : (tensor<*xf32>, tensor<32x10xf32>) -> tensor<*xf32>
  return %1 : tensor<*xf32>
}

// -----

// The arithmetic of shapes is followed by value: 1, seq, 64 becomes 1, seq, 8, 8 and back.
// CHECK-LABEL: func @reshape
func.func @reshape(%x: tensor<1x?x64xf32>) -> tensor<*xf32> {
  %shape = "onnx.Shape"(%x) {start = 1 : si64, end = 2 : si64} : (tensor<1x?x64xf32>) -> tensor<*xi64>
  %one = "onnx.Constant"() {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
  %eight = "onnx.Constant"() {value = dense<8> : tensor<1xi64>} : () -> tensor<1xi64>
  // CHECK: "onnx.Concat"{{.*}} -> tensor<4xi64>
  %to = "onnx.Concat"(%one, %shape, %eight, %eight) {axis = 0 : si64} : (tensor<1xi64>, tensor<*xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<*xi64>
  // CHECK: "onnx.Reshape"{{.*}} -> tensor<1x?x8x8xf32>
  %0 = "onnx.Reshape"(%x, %to) : (tensor<1x?x64xf32>, tensor<*xi64>) -> tensor<*xf32>
  %back = "onnx.Constant"() {value = dense<[1, -1, 64]> : tensor<3xi64>} : () -> tensor<3xi64>
  // CHECK: "onnx.Reshape"{{.*}} -> tensor<1x?x64xf32>
  %1 = "onnx.Reshape"(%0, %back) : (tensor<*xf32>, tensor<3xi64>) -> tensor<*xf32>
  // CHECK: "onnx.Add"{{.*}} -> tensor<1x?x64xf32>
  %2 = "onnx.Add"(%1, %x) : (tensor<*xf32>, tensor<1x?x64xf32>) -> tensor<*xf32>
  return %2 : tensor<*xf32>
}

// -----

// CHECK-LABEL: func @windows
func.func @windows(%x: tensor<?x3x32x31xf32>) -> (tensor<*xf32>, tensor<*xf32>) {
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<8x3x3x3xf32>} : () -> tensor<8x3x3x3xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  // CHECK: "onnx.Conv"{{.*}} -> tensor<?x8x16x16xf32>
  %0 = "onnx.Conv"(%x, %w, %none) {strides = [2, 2], pads = [1, 1, 1, 1]} : (tensor<?x3x32x31xf32>, tensor<8x3x3x3xf32>, none) -> tensor<*xf32>
  // ceil_mode rounds up.
  // CHECK: "onnx.MaxPool"{{.*}} -> (tensor<?x3x11x11xf32>, none)
  %1, %i = "onnx.MaxPool"(%x) {kernel_shape = [2, 2], strides = [3, 3], ceil_mode = 1 : si64} : (tensor<?x3x32x31xf32>) -> (tensor<*xf32>, none)
  return %0, %1 : tensor<*xf32>, tensor<*xf32>
}

// -----

func.func @inner(%a: tensor<2x3xf32>, %b: tensor<4x5xf32>) -> tensor<*xf32> {
  // expected-error @+1 {{MatMul node 'fc': operands have shapes [2, 3], [4, 5]; the inner sizes differ}}
  %0 = "onnx.MatMul"(%a, %b) {onnx_node_name = "fc"} : (tensor<2x3xf32>, tensor<4x5xf32>) -> tensor<*xf32>
  return %0 : tensor<*xf32>
}

// -----

func.func @declared(%a: tensor<2x3xf32>) -> tensor<3x3xf32> {
  // expected-error @+1 {{Transpose node 't': result 0 has shape [3, 2]; its type says [3, 3]}}
  %0 = "onnx.Transpose"(%a) {onnx_node_name = "t"} : (tensor<2x3xf32>) -> tensor<3x3xf32>
  return %0 : tensor<3x3xf32>
}

// -----

func.func @big(%a: tensor<1xf32>) -> tensor<*xf32> {
  %to = "onnx.Constant"() {value = dense<[9223372036854775807, 2]> : tensor<2xi64>} : () -> tensor<2xi64>
  // expected-error @+1 {{Expand node 'e': result 0 of shape [9223372036854775807, 2] is too big}}
  %0 = "onnx.Expand"(%a, %to) {onnx_node_name = "e"} : (tensor<1xf32>, tensor<2xi64>) -> tensor<*xf32>
  return %0 : tensor<*xf32>
}
