// RUN: lowbit-opt %s | lowbit-opt | FileCheck %s
// RUN: lowbit-opt %s --emit-bytecode | lowbit-opt | FileCheck %s

// The text is onnx-mlir's where both have the op: names, operands that are left out, signless and unsigned integers.
// CHECK-LABEL: func @main_graph
func.func @main_graph(%x: tensor<?x3x8x8xf32> {onnx.name = "input", onnx.dim_params = "0:N"}) -> (tensor<*xf32> {onnx.name = "y"}) {
  // CHECK: "onnx.NoValue"() <{value}> : () -> none
  %none = "onnx.NoValue"() {value} : () -> none
  // CHECK: "onnx.Constant"() <{value = dense<1.000000e+00> : tensor<4x3x3x3xf32>}> {onnx_name = "w"}
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<4x3x3x3xf32>, onnx_name = "w"} : () -> tensor<4x3x3x3xf32>
  // CHECK: "onnx.Conv"({{.*}}) <{auto_pad = "NOTSET", group = 1 : si64, kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [1, 1]}> {onnx_node_name = "conv1"}
  %0 = "onnx.Conv"(%x, %w, %none) {auto_pad = "NOTSET", group = 1 : si64, kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [1, 1], onnx_node_name = "conv1"} : (tensor<?x3x8x8xf32>, tensor<4x3x3x3xf32>, none) -> tensor<?x4x8x8xf32>
  // CHECK: "onnx.Relu"(%{{.*}}) {onnx_node_name = "Relu#1"}
  %1 = "onnx.Relu"(%0) {onnx_node_name = "Relu#1"} : (tensor<?x4x8x8xf32>) -> tensor<*xf32>
  // CHECK: "onnx.Constant"() <{value = dense<[0, 255]> : tensor<2xui8>}>
  %u = "onnx.Constant"() {value = dense<[0, 255]> : tensor<2xui8>} : () -> tensor<2xui8>
  // CHECK: "onnx.Constant"() <{value = dense<[-8, 7]> : tensor<2xi4>}>
  %i = "onnx.Constant"() {value = dense<[-8, 7]> : tensor<2xi4>} : () -> tensor<2xi4>
  // CHECK: "onnx.Custom"(%{{.*}}) <{domain_name = "com.example", function_name = "F"}>
  %2 = "onnx.Custom"(%1) {function_name = "F", domain_name = "com.example", alpha = 1.0 : f32} : (tensor<*xf32>) -> tensor<*xf32>
  return %2 : tensor<*xf32>
}
