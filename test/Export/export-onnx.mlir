// RUN: lowbit-translate --export-onnx %s | lowbit-translate --import-onnx \
// RUN:   | lowbit-opt --lowbit-to-float --lowbit-convert-onnx-to-lowbit | FileCheck %s

// Names of inputs, outputs, initializers and dims, 4-bit weights in blocks, one group as a scale per channel, an i32 bias
// without zero point, an output that is an input, control over attributes that opset 21 does not have.

// CHECK: module attributes {{.*}}onnx.opset = 21
// CHECK: func.func @main_graph(%[[X:.*]]: tensor<?x3xf32> {onnx.dim_params = "0:N", onnx.name = "x"})
// CHECK-SAME: -> (tensor<?x2xf32> {onnx.dim_params = "0:N", onnx.name = "y"}, tensor<?x3xf32> {onnx.dim_params = "0:N", onnx.name = "same"})
// CHECK: %[[S:.*]] = "onnx.Constant"() <{value = dense<5.000000e-01> : tensor<f32>}> {onnx_name = "x_scale"}
// CHECK: %[[Q:.*]] = lowbit.quantize %[[X]] scale(%[[S]]) zero(%[[Z:.*]]) : (tensor<?x3xf32>, tensor<f32>, tensor<i8>) -> tensor<?x3xi8>
// CHECK: %[[D:.*]] = lowbit.dequantize %[[Q]] scale(%[[S]]) zero(%[[Z]])
// CHECK: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[-8, 7], [3, -1], [0, 1]]> : tensor<3x2xi4>}> {onnx_name = "w_quantized"}
// CHECK: %[[DW:.*]] = lowbit.dequantize %[[W]] {{.*}} {axis = 0 : i64, group = 2 : i64} : (tensor<3x2xi4>, tensor<2x2xf32>, tensor<2x2xi4>)
// CHECK: %[[B:.*]] = "onnx.Constant"() <{value = dense<[7, -8]> : tensor<2xi32>}> {onnx_name = "b_quantized"}
// CHECK: %[[DB:.*]] = lowbit.dequantize %[[B]] {{.*}} {axis = 0 : i64} : (tensor<2xi32>, tensor<2xf32>, tensor<2xi32>)
// CHECK: "onnx.Gemm"(%[[D]], %[[DW]], %[[DB]]) {{.*}}onnx_node_name = "fc"
// CHECK: %[[V:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[1, 2]]> : tensor<1x2xui4>}>
// CHECK: lowbit.dequantize %{{.*}} {axis = 1 : i64} : (tensor<1x2xui4>, tensor<2xf32>, tensor<2xui4>)
// CHECK: "onnx.Add"
// CHECK: return %{{.*}}, %[[X]]
func.func @main_graph(%x: tensor<?x3xf32> {onnx.name = "x", onnx.dim_params = "0:N"})
    -> (tensor<?x2xf32> {onnx.name = "y", onnx.dim_params = "0:N"}, tensor<?x3xf32> {onnx.name = "same", onnx.dim_params = "0:N"}) {
  %xs = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %xz = "onnx.Constant"() {value = dense<0> : tensor<i8>} : () -> tensor<i8>
  %w = "onnx.Constant"() {onnx_name = "w", value = dense<[[-8, 7], [3, -1], [0, 1]]> : tensor<3x2xi4>} : () -> tensor<3x2xi4>
  %ws = "onnx.Constant"() {value = dense<[[0.5, 0.25], [1.0, 2.0]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %wz = "onnx.Constant"() {value = dense<0> : tensor<2x2xi4>} : () -> tensor<2x2xi4>
  %b = "onnx.Constant"() {onnx_name = "b", value = dense<[7, -8]> : tensor<2xi32>} : () -> tensor<2xi32>
  %bs = "onnx.Constant"() {value = dense<[0.125, 0.5]> : tensor<2xf32>} : () -> tensor<2xf32>
  %bz = "onnx.Constant"() {value = dense<0> : tensor<2xi32>} : () -> tensor<2xi32>
  %v = "onnx.Constant"() {value = dense<[[1, 2]]> : tensor<1x2xui4>} : () -> tensor<1x2xui4>
  %vs = "onnx.Constant"() {value = dense<[[0.5, 1.0]]> : tensor<1x2xf32>} : () -> tensor<1x2xf32>
  %vz = "onnx.Constant"() {value = dense<8> : tensor<1x2xui4>} : () -> tensor<1x2xui4>
  %q = lowbit.quantize %x scale(%xs) zero(%xz) : (tensor<?x3xf32>, tensor<f32>, tensor<i8>) -> tensor<?x3xi8>
  %0 = lowbit.dequantize %q scale(%xs) zero(%xz) : (tensor<?x3xi8>, tensor<f32>, tensor<i8>) -> tensor<?x3xf32>
  %1 = lowbit.dequantize %w scale(%ws) zero(%wz) {axis = 0 : i64, group = 2 : i64} : (tensor<3x2xi4>, tensor<2x2xf32>, tensor<2x2xi4>) -> tensor<3x2xf32>
  %2 = lowbit.dequantize %b scale(%bs) zero(%bz) {axis = 0 : i64} : (tensor<2xi32>, tensor<2xf32>, tensor<2xi32>) -> tensor<2xf32>
  %3 = "onnx.Gemm"(%0, %1, %2) {onnx_node_name = "fc"} : (tensor<?x3xf32>, tensor<3x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
  %4 = lowbit.dequantize %v scale(%vs) zero(%vz) {axis = 0 : i64, group = 8 : i64} : (tensor<1x2xui4>, tensor<1x2xf32>, tensor<1x2xui4>) -> tensor<1x2xf32>
  %5 = "onnx.Cast"(%4) {to = 1 : si64, round_mode = "up", onnx_node_name = "cast"} : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %6 = "onnx.Add"(%3, %5) {onnx_node_name = "add"} : (tensor<?x2xf32>, tensor<1x2xf32>) -> tensor<?x2xf32>
  return %6, %x : tensor<?x2xf32>, tensor<?x3xf32>
}
