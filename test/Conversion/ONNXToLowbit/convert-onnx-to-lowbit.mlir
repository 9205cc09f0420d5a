// RUN: lowbit-opt %s --split-input-file --lowbit-convert-onnx-to-lowbit | FileCheck %s
// RUN: lowbit-opt %s --split-input-file --lowbit-convert-onnx-to-lowbit --lowbit-fold-constants --lowbit-fuse-qdq \
// RUN:   | FileCheck %s --check-prefix=FUSED

// One scale of rank 1 is one scale; a missing zero point is 0; the axis counts from the end.

// CHECK-LABEL: func.func @per_tensor_and_axis
// CHECK-DAG: %[[S:.*]] = "onnx.Constant"() <{value = dense<5.000000e-01> : tensor<f32>}>
// CHECK-DAG: %[[Z:.*]] = "onnx.Constant"() <{value = dense<0> : tensor<ui8>}>
// CHECK: lowbit.quantize %{{.*}} scale(%[[S]]) zero(%[[Z]]) : (tensor<?x2xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x2xui8>
// CHECK: lowbit.dequantize %{{.*}} scale(%{{.*}}) zero(%{{.*}}) {axis = 1 : i64} : (tensor<?x2xui8>, tensor<2xf32>, tensor<2xui8>)
func.func @per_tensor_and_axis(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
  %none = "onnx.NoValue"() {value} : () -> none
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<1xf32>} : () -> tensor<1xf32>
  %t = "onnx.Constant"() {value = dense<[0.5, 0.25]> : tensor<2xf32>} : () -> tensor<2xf32>
  %0 = "onnx.QuantizeLinear"(%x, %s, %none) : (tensor<?x2xf32>, tensor<1xf32>, none) -> tensor<?x2xui8>
  %1 = "onnx.DequantizeLinear"(%0, %t, %none) {axis = -1 : si64} : (tensor<?x2xui8>, tensor<2xf32>, none) -> tensor<?x2xf32>
  return %1 : tensor<?x2xf32>
}

// -----

// Weights in blocks along K, the last one partial, become the layer's groups.

// CHECK-LABEL: func.func @blocked
// CHECK: lowbit.dequantize %{{.*}} scale(%{{.*}}) zero(%{{.*}}) {axis = 0 : i64, group = 2 : i64}
// CHECK-SAME: (tensor<3x2xui4>, tensor<2x2xf32>, tensor<2x2xui4>) -> tensor<3x2xf32>
// FUSED-LABEL: func.func @blocked
// FUSED-DAG: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[1, 3, 5], [2, 4, 6]]> : tensor<2x3xui4>}>
// FUSED-DAG: %[[S:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[5.000000e-01, 1.000000e+00], [2.500000e-01, 2.000000e+00]]> : tensor<2x2xf32>}>
// FUSED: lowbit.linear %{{.*}}, %[[W]] scale(%[[S]]) zero(%{{.*}}) {group = 2 : i64, layer = "fc"}
func.func @blocked(%x: tensor<?x3xf32>) -> tensor<?x2xf32> {
  %w = "onnx.Constant"() {value = dense<[[1, 2], [3, 4], [5, 6]]> : tensor<3x2xui4>} : () -> tensor<3x2xui4>
  %s = "onnx.Constant"() {value = dense<[[0.5, 0.25], [1.0, 2.0]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %z = "onnx.Constant"() {value = dense<8> : tensor<2x2xui4>} : () -> tensor<2x2xui4>
  %0 = "onnx.DequantizeLinear"(%w, %s, %z) {axis = 0 : si64, block_size = 2 : si64} : (tensor<3x2xui4>, tensor<2x2xf32>, tensor<2x2xui4>) -> tensor<3x2xf32>
  %1 = "onnx.MatMul"(%x, %0) {onnx_node_name = "fc"} : (tensor<?x3xf32>, tensor<3x2xf32>) -> tensor<?x2xf32>
  return %1 : tensor<?x2xf32>
}

// -----

// A Transpose of dequantized weights goes to the integers; the axis of their scales follows.

// CHECK-LABEL: func.func @transposed
// CHECK: "onnx.Transpose"(%{{.*}}) <{perm = [1, 0]}> : (tensor<2x3xi8>) -> tensor<3x2xi8>
// CHECK: lowbit.dequantize %{{.*}} {axis = 1 : i64}
// FUSED-LABEL: func.func @transposed
// FUSED: lowbit.linear %{{.*}} {layer = "fc"}
func.func @transposed(%x: tensor<?x3xf32>) -> tensor<?x2xf32> {
  %w = "onnx.Constant"() {value = dense<[[1, 3, 5], [2, 4, 6]]> : tensor<2x3xi8>} : () -> tensor<2x3xi8>
  %s = "onnx.Constant"() {value = dense<[0.5, 0.25]> : tensor<2xf32>} : () -> tensor<2xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  %0 = "onnx.DequantizeLinear"(%w, %s, %none) {axis = 0 : si64} : (tensor<2x3xi8>, tensor<2xf32>, none) -> tensor<2x3xf32>
  %1 = "onnx.Transpose"(%0) {perm = [1, 0]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %2 = "onnx.MatMul"(%x, %1) {onnx_node_name = "fc"} : (tensor<?x3xf32>, tensor<3x2xf32>) -> tensor<?x2xf32>
  return %2 : tensor<?x2xf32>
}

// -----

// An 8-bit input and u8 weights around 128: the integer form, on i8 weights. The bias has another scale than the
// accumulator, so it is added in float.

// FUSED-LABEL: func.func @unsigned_weights
// FUSED: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[-128, 127], [0, 2]]> : tensor<2x2xi8>}>
// FUSED: %[[Y:.*]] = lowbit.linear %{{.*}}, %[[W]] scale(%{{.*}}) input_scale(%{{.*}}) input_zero(%{{.*}}) {layer = "fc"}
// FUSED: "onnx.Add"(%[[Y]], %{{.*}}) {onnx_node_name = "fc/bias"}
func.func @unsigned_weights(%x: tensor<?x2xui8>) -> tensor<?x2xf32> {
  %w = "onnx.Constant"() {value = dense<[[0, 255], [128, 130]]> : tensor<2x2xui8>} : () -> tensor<2x2xui8>
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<128> : tensor<ui8>} : () -> tensor<ui8>
  %b = "onnx.Constant"() {value = dense<[0.5, 0.25]> : tensor<2xf32>} : () -> tensor<2xf32>
  %0 = "onnx.DequantizeLinear"(%x, %s, %z) : (tensor<?x2xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x2xf32>
  %1 = "onnx.DequantizeLinear"(%w, %s, %z) : (tensor<2x2xui8>, tensor<f32>, tensor<ui8>) -> tensor<2x2xf32>
  %2 = "onnx.Gemm"(%0, %1, %b) {onnx_node_name = "fc", transB = 1 : si64} : (tensor<?x2xf32>, tensor<2x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
  return %2 : tensor<?x2xf32>
}

// -----

// Integer products whose sums become f32 are layers of scale 1; the zero point of the input may come from the run.

// CHECK-LABEL: func.func @integer_product
// CHECK: lowbit.dequantize %arg0 scale(%{{.*}}) zero(%arg1)
// CHECK: "onnx.MatMul"(%{{.*}}, %{{.*}}) {onnx_node_name = "fc"}
// CHECK-NOT: onnx.Cast
// FUSED-LABEL: func.func @integer_product
// FUSED: lowbit.linear %arg0, %{{.*}} input_zero(%arg1) {layer = "fc"}
func.func @integer_product(%x: tensor<?x2xui8>, %z: tensor<ui8>) -> tensor<?x2xf32> {
  %w = "onnx.Constant"() {value = dense<[[0, 255], [128, 130]]> : tensor<2x2xui8>} : () -> tensor<2x2xui8>
  %wz = "onnx.Constant"() {value = dense<128> : tensor<ui8>} : () -> tensor<ui8>
  %0 = "onnx.MatMulInteger"(%x, %w, %z, %wz) {onnx_node_name = "fc"} : (tensor<?x2xui8>, tensor<2x2xui8>, tensor<ui8>, tensor<ui8>) -> tensor<?x2xi32>
  %1 = "onnx.Cast"(%0) {to = 1 : si64} : (tensor<?x2xi32>) -> tensor<?x2xf32>
  return %1 : tensor<?x2xf32>
}

// -----

// A sum that leaves as i32 stays one.

// CHECK-LABEL: func.func @integer_result
// CHECK: onnx.MatMulInteger
func.func @integer_result(%x: tensor<?x2xui8>) -> tensor<?x2xi32> {
  %w = "onnx.Constant"() {value = dense<1> : tensor<2x2xi8>} : () -> tensor<2x2xi8>
  %none = "onnx.NoValue"() {value} : () -> none
  %0 = "onnx.MatMulInteger"(%x, %w, %none, %none) {onnx_node_name = "fc"} : (tensor<?x2xui8>, tensor<2x2xi8>, none, none) -> tensor<?x2xi32>
  return %0 : tensor<?x2xi32>
}

// -----

// Weights of a model that was trained quantized are float constants behind both ops.

// FUSED-LABEL: func.func @trained_quantized
// FUSED: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[2, 127], [-4, 0]]> : tensor<2x2xi8>}>
// FUSED: lowbit.linear %{{.*}}, %[[W]] scale(%{{.*}}) {layer = "fc"}
func.func @trained_quantized(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
  %w = "onnx.Constant"() {onnx_name = "w", value = dense<[[1.25, -1.0], [99.0, 0.1]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %s = "onnx.Constant"() {value = dense<[0.5, 0.25]> : tensor<2xf32>} : () -> tensor<2xf32>
  %z = "onnx.Constant"() {value = dense<0> : tensor<2xi8>} : () -> tensor<2xi8>
  %none = "onnx.NoValue"() {value} : () -> none
  %0 = "onnx.QuantizeLinear"(%w, %s, %z) {axis = 1 : si64} : (tensor<2x2xf32>, tensor<2xf32>, tensor<2xi8>) -> tensor<2x2xi8>
  %1 = "onnx.DequantizeLinear"(%0, %s, %z) {axis = 1 : si64} : (tensor<2x2xi8>, tensor<2xf32>, tensor<2xi8>) -> tensor<2x2xf32>
  %2 = "onnx.Gemm"(%x, %1, %none) {onnx_node_name = "fc", transB = 0 : si64} : (tensor<?x2xf32>, tensor<2x2xf32>, none) -> tensor<?x2xf32>
  return %2 : tensor<?x2xf32>
}
