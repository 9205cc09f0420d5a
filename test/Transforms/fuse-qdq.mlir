// RUN: lowbit-opt %s --split-input-file --lowbit-fuse-qdq --verify-diagnostics | FileCheck %s

// An integer layer with bias, Relu and the quantize of its only reader. The weights become [N, K].

// CHECK-LABEL: func.func @integer
// CHECK-SAME: (%[[X:.*]]: tensor<?x3xui8>)
// CHECK-DAG: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[1, 3, 5], [2, 4, 6]]> : tensor<2x3xi8>}>
// CHECK-DAG: %[[B:.*]] = "onnx.Constant"() <{value = dense<[7, -8]> : tensor<2xi32>}>
// CHECK: %[[Y:.*]] = lowbit.linear %[[X]], %[[W]] scale(%{{.*}}) bias(%[[B]]) input_scale(%[[XS:.*]]) input_zero(%[[XZ:.*]]) output_scale(%[[YS:.*]]) output_zero(%[[YZ:.*]]) {layer = "fc", lowbit.decision = {weights = "i8"}, relu}
// CHECK-SAME: -> tensor<?x2xi8>
// CHECK-NEXT: return %[[Y]]
func.func @integer(%x: tensor<?x3xui8>) -> tensor<?x2xi8> {
  %xs = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %xz = "onnx.Constant"() {value = dense<128> : tensor<ui8>} : () -> tensor<ui8>
  %ys = "onnx.Constant"() {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
  %yz = "onnx.Constant"() {value = dense<-3> : tensor<i8>} : () -> tensor<i8>
  %w = "onnx.Constant"() {value = dense<[[1, 2], [3, 4], [5, 6]]> : tensor<3x2xi8>} : () -> tensor<3x2xi8>
  %ws = "onnx.Constant"() {value = dense<[0.25, 1.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %wz = "onnx.Constant"() {value = dense<0> : tensor<2xi8>} : () -> tensor<2xi8>
  %b = "onnx.Constant"() {value = dense<[7, -8]> : tensor<2xi32>} : () -> tensor<2xi32>
  %bs = "onnx.Constant"() {value = dense<[0.125, 0.5]> : tensor<2xf32>} : () -> tensor<2xf32>
  %bz = "onnx.Constant"() {value = dense<0> : tensor<2xi32>} : () -> tensor<2xi32>
  %0 = lowbit.dequantize %x scale(%xs) zero(%xz) : (tensor<?x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x3xf32>
  %1 = lowbit.dequantize %w scale(%ws) zero(%wz) {axis = 1 : i64} : (tensor<3x2xi8>, tensor<2xf32>, tensor<2xi8>) -> tensor<3x2xf32>
  %2 = lowbit.dequantize %b scale(%bs) zero(%bz) {axis = 0 : i64} : (tensor<2xi32>, tensor<2xf32>, tensor<2xi32>) -> tensor<2xf32>
  %3 = "onnx.MatMul"(%0, %1) {onnx_node_name = "fc", lowbit.decision = {weights = "i8"}} : (tensor<?x3xf32>, tensor<3x2xf32>) -> tensor<?x2xf32>
  %4 = "onnx.Add"(%3, %2) : (tensor<?x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
  %5 = "onnx.Relu"(%4) : (tensor<?x2xf32>) -> tensor<?x2xf32>
  %6 = lowbit.quantize %5 scale(%ys) zero(%yz) : (tensor<?x2xf32>, tensor<f32>, tensor<i8>) -> tensor<?x2xi8>
  return %6 : tensor<?x2xi8>
}

// -----

// A value with a second reader stays: Relu is not swallowed. The other reader keeps the float result.

// CHECK-LABEL: func.func @two_readers
// CHECK: %[[Y:.*]] = lowbit.conv %{{.*}} {dilations = array<i64: 1, 1>, layer = "conv", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 2, 2>}
// CHECK-SAME: -> tensor<1x1x2x2xf32>
// CHECK: "onnx.Relu"(%[[Y]])
// CHECK: return %{{.*}}, %[[Y]]
func.func @two_readers(%x: tensor<1x1x4x4xi8>) -> (tensor<1x1x2x2xf32>, tensor<1x1x2x2xf32>) {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<0> : tensor<i8>} : () -> tensor<i8>
  %w = "onnx.Constant"() {value = dense<3> : tensor<1x1x1x1xi8>} : () -> tensor<1x1x1x1xi8>
  %none = "onnx.NoValue"() {value} : () -> none
  %0 = lowbit.dequantize %x scale(%s) zero(%z) : (tensor<1x1x4x4xi8>, tensor<f32>, tensor<i8>) -> tensor<1x1x4x4xf32>
  %1 = lowbit.dequantize %w scale(%s) zero(%z) : (tensor<1x1x1x1xi8>, tensor<f32>, tensor<i8>) -> tensor<1x1x1x1xf32>
  %2 = "onnx.Conv"(%0, %1, %none) {onnx_node_name = "conv", strides = [2, 2]} : (tensor<1x1x4x4xf32>, tensor<1x1x1x1xf32>, none) -> tensor<1x1x2x2xf32>
  %3 = "onnx.Relu"(%2) : (tensor<1x1x2x2xf32>) -> tensor<1x1x2x2xf32>
  return %3, %2 : tensor<1x1x2x2xf32>, tensor<1x1x2x2xf32>
}

// -----

// Weight-only: groups along K, scales transposed with the weights; a float bias; auto_pad becomes pads; filters that
// were quantized as a matrix.

// CHECK-LABEL: func.func @weight_only
// CHECK-DAG: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[1, 3, 5], [2, 4, 6]]> : tensor<2x3xui4>}>
// CHECK-DAG: %[[WS:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[1.000000e+00, 3.000000e+00], [2.000000e+00, 4.000000e+00]]> : tensor<2x2xf32>}>
// CHECK: lowbit.linear %{{.*}}, %[[W]] scale(%[[WS]]) zero(%{{.*}}) bias(%{{.*}}) {group = 2 : i64, layer = "fc"} : (tensor<1x3xf32>
// CHECK: "onnx.Constant"() <{value = dense<{{.*}}> : tensor<1x1x2x2xui4>}>
// CHECK: lowbit.conv %{{.*}} {dilations = array<i64: 1, 1>, group = 2 : i64, layer = "conv", pads = array<i64: 0, 0, 1, 1>, strides = array<i64: 1, 1>}
// CHECK: lowbit.gather %{{.*}}[%{{.*}}] scale(%{{.*}}) {layer = "emb"}
func.func @weight_only(%x: tensor<1x3xf32>, %i: tensor<1x1x4x4xf32>, %ids: tensor<5xi64>) -> (tensor<1x2xf32>, tensor<1x1x4x4xf32>, tensor<5x2xf32>) {
  %w = "onnx.Constant"() {value = dense<[[1, 2], [3, 4], [5, 6]]> : tensor<3x2xui4>} : () -> tensor<3x2xui4>
  %ws = "onnx.Constant"() {value = dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %wz = "onnx.Constant"() {value = dense<[[8, 7], [6, 5]]> : tensor<2x2xui4>} : () -> tensor<2x2xui4>
  %c = "onnx.Constant"() {value = dense<[[1.0, 2.0]]> : tensor<1x2xf32>} : () -> tensor<1x2xf32>
  %f = "onnx.Constant"() {value = dense<[[1, 2, 3, 4]]> : tensor<1x4xui4>} : () -> tensor<1x4xui4>
  %fs = "onnx.Constant"() {value = dense<[[1.0, 2.0]]> : tensor<1x2xf32>} : () -> tensor<1x2xf32>
  %fz = "onnx.Constant"() {value = dense<[[8, 7]]> : tensor<1x2xui4>} : () -> tensor<1x2xui4>
  %t = "onnx.Constant"() {value = dense<[[1, 2], [3, 4]]> : tensor<2x2xi8>} : () -> tensor<2x2xi8>
  %ts = "onnx.Constant"() {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %tz = "onnx.Constant"() {value = dense<0> : tensor<2xi8>} : () -> tensor<2xi8>
  %none = "onnx.NoValue"() {value} : () -> none
  %0 = lowbit.dequantize %w scale(%ws) zero(%wz) {axis = 0 : i64, group = 2 : i64} : (tensor<3x2xui4>, tensor<2x2xf32>, tensor<2x2xui4>) -> tensor<3x2xf32>
  %1 = "onnx.Gemm"(%x, %0, %c) {onnx_node_name = "fc"} : (tensor<1x3xf32>, tensor<3x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %2 = lowbit.dequantize %f scale(%fs) zero(%fz) {axis = 1 : i64, group = 2 : i64} : (tensor<1x4xui4>, tensor<1x2xf32>, tensor<1x2xui4>) -> tensor<1x4xf32>
  %3 = tensor.expand_shape %2 [[0], [1, 2, 3]] output_shape [1, 1, 2, 2] : tensor<1x4xf32> into tensor<1x1x2x2xf32>
  %4 = "onnx.Conv"(%i, %3, %none) {onnx_node_name = "conv", auto_pad = "SAME_UPPER"} : (tensor<1x1x4x4xf32>, tensor<1x1x2x2xf32>, none) -> tensor<1x1x4x4xf32>
  %5 = lowbit.dequantize %t scale(%ts) zero(%tz) {axis = 0 : i64} : (tensor<2x2xi8>, tensor<2xf32>, tensor<2xi8>) -> tensor<2x2xf32>
  %6 = "onnx.Gather"(%5, %ids) {onnx_node_name = "emb"} : (tensor<2x2xf32>, tensor<5xi64>) -> tensor<5x2xf32>
  return %1, %4, %6 : tensor<1x2xf32>, tensor<1x1x4x4xf32>, tensor<5x2xf32>
}

// -----

// Asymmetric weights that are no i8 less their zero point are sums of two that are, on the input twice.

// CHECK-LABEL: func.func @asymmetric
// CHECK-SAME: (%[[X:.*]]: tensor<1x2xui8>)
// CHECK: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[127, -99, 28, 0], [-100, -98, 0, 0]]> : tensor<2x4xi8>}>
// CHECK: %[[T:.*]] = "onnx.Concat"(%[[X]], %[[X]]) <{axis = 1 : si64}>
// CHECK: lowbit.linear %[[T]], %[[W]] scale(%{{.*}}) input_scale(%{{.*}}) input_zero(%{{.*}}) {layer = "MatMul#0"}
func.func @asymmetric(%x: tensor<1x2xui8>) -> tensor<1x2xf32> {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<128> : tensor<ui8>} : () -> tensor<ui8>
  %w = "onnx.Constant"() {value = dense<[[255, 0], [1, 2]]> : tensor<2x2xui8>} : () -> tensor<2x2xui8>
  %wz = "onnx.Constant"() {value = dense<100> : tensor<ui8>} : () -> tensor<ui8>
  %0 = lowbit.dequantize %x scale(%s) zero(%z) : (tensor<1x2xui8>, tensor<f32>, tensor<ui8>) -> tensor<1x2xf32>
  %1 = lowbit.dequantize %w scale(%s) zero(%wz) : (tensor<2x2xui8>, tensor<f32>, tensor<ui8>) -> tensor<2x2xf32>
  %2 = "onnx.MatMul"(%0, %1) : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  return %2 : tensor<1x2xf32>
}

// -----

// 255 less a zero point of 0 is no such sum: the layer reads the dequantized input.

// CHECK-LABEL: func.func @no_sum
// CHECK: %[[X:.*]] = lowbit.dequantize %{{.*}} : (tensor<1x2xui8>
// CHECK: lowbit.linear %[[X]], %{{.*}} {layer = "MatMul#0"} : (tensor<1x2xf32>
func.func @no_sum(%x: tensor<1x2xui8>) -> tensor<1x2xf32> {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<0> : tensor<ui8>} : () -> tensor<ui8>
  %w = "onnx.Constant"() {value = dense<[[255, 0], [1, 2]]> : tensor<2x2xui8>} : () -> tensor<2x2xui8>
  %0 = lowbit.dequantize %x scale(%s) zero(%z) : (tensor<1x2xui8>, tensor<f32>, tensor<ui8>) -> tensor<1x2xf32>
  %1 = lowbit.dequantize %w scale(%s) zero(%z) : (tensor<2x2xui8>, tensor<f32>, tensor<ui8>) -> tensor<2x2xf32>
  %2 = "onnx.MatMul"(%0, %1) : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  return %2 : tensor<1x2xf32>
}

// -----

// A scale per row, as lowbit.dynamic_quantize gives it: integers with sums in float, the bias and the Relu in it.

// CHECK-LABEL: func.func @per_token
// CHECK: %[[Q:.*]], %[[S:.*]], %[[Z:.*]] = lowbit.dynamic_quantize %{{.*}} {per_token}
// CHECK: %[[Y:.*]] = lowbit.linear %[[Q]], %{{.*}} scale(%{{.*}}) bias(%{{.*}}) input_scale(%[[S]]) input_zero(%[[Z]]) {layer = "fc", relu}
// CHECK-SAME: (tensor<?x2xui8>, tensor<2x2xi8>, tensor<2xf32>, tensor<2xf32>, tensor<?x1xf32>, tensor<?x1xui8>) -> tensor<?x2xf32>
// CHECK-NEXT: return %[[Y]]
func.func @per_token(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
  %w = "onnx.Constant"() {value = dense<[[1, 2], [3, 4]]> : tensor<2x2xi8>} : () -> tensor<2x2xi8>
  %ws = "onnx.Constant"() {value = dense<[0.25, 1.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %wz = "onnx.Constant"() {value = dense<0> : tensor<2xi8>} : () -> tensor<2xi8>
  %b = "onnx.Constant"() {value = dense<[0.5, -0.5]> : tensor<2xf32>} : () -> tensor<2xf32>
  %q, %s, %z = lowbit.dynamic_quantize %x {per_token} : tensor<?x2xf32> -> tensor<?x2xui8>, tensor<?x1xf32>, tensor<?x1xui8>
  %0 = lowbit.dequantize %q scale(%s) zero(%z) {axis = 1 : i64, group = 2 : i64} : (tensor<?x2xui8>, tensor<?x1xf32>, tensor<?x1xui8>) -> tensor<?x2xf32>
  %1 = lowbit.dequantize %w scale(%ws) zero(%wz) {axis = 1 : i64} : (tensor<2x2xi8>, tensor<2xf32>, tensor<2xi8>) -> tensor<2x2xf32>
  %2 = "onnx.Gemm"(%0, %1, %b) {onnx_node_name = "fc"} : (tensor<?x2xf32>, tensor<2x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
  %3 = "onnx.Relu"(%2) : (tensor<?x2xf32>) -> tensor<?x2xf32>
  return %3 : tensor<?x2xf32>
}

// -----

// 4-bit weights in groups beside 8-bit activations, and 8-bit weights beside 16-bit ones: the float result is quantized by an op of its own.

// CHECK-LABEL: func.func @w4a8
// CHECK: %[[A:.*]] = lowbit.linear %{{.*}} zero(%{{.*}}) input_scale(%{{.*}}) input_zero(%{{.*}}) {group = 2 : i64, layer = "a"}
// CHECK-SAME: (tensor<1x4xui8>, tensor<1x4xui4>, tensor<1x2xf32>, tensor<1x2xui4>, tensor<f32>, tensor<ui8>) -> tensor<1x1xf32>
// CHECK: %[[Q:.*]] = lowbit.quantize %[[A]]
// CHECK: lowbit.linear %{{.*}} {layer = "b"} : (tensor<1x4xi16>, tensor<1x4xi8>, tensor<f32>, tensor<f32>, tensor<i16>) -> tensor<1x1xf32>
func.func @w4a8(%x: tensor<1x4xui8>, %y: tensor<1x4xi16>) -> (tensor<1x1xui8>, tensor<1x1xf32>) {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<128> : tensor<ui8>} : () -> tensor<ui8>
  %z8 = "onnx.Constant"() {value = dense<0> : tensor<i8>} : () -> tensor<i8>
  %z16 = "onnx.Constant"() {value = dense<0> : tensor<i16>} : () -> tensor<i16>
  %w = "onnx.Constant"() {value = dense<[[1], [2], [3], [4]]> : tensor<4x1xui4>} : () -> tensor<4x1xui4>
  %v = "onnx.Constant"() {value = dense<[[1], [2], [3], [4]]> : tensor<4x1xi8>} : () -> tensor<4x1xi8>
  %ws = "onnx.Constant"() {value = dense<[[0.25], [1.0]]> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  %wz = "onnx.Constant"() {value = dense<[[7], [8]]> : tensor<2x1xui4>} : () -> tensor<2x1xui4>
  %0 = lowbit.dequantize %x scale(%s) zero(%z) : (tensor<1x4xui8>, tensor<f32>, tensor<ui8>) -> tensor<1x4xf32>
  %1 = lowbit.dequantize %w scale(%ws) zero(%wz) {axis = 0 : i64, group = 2 : i64} : (tensor<4x1xui4>, tensor<2x1xf32>, tensor<2x1xui4>) -> tensor<4x1xf32>
  %2 = "onnx.MatMul"(%0, %1) {onnx_node_name = "a"} : (tensor<1x4xf32>, tensor<4x1xf32>) -> tensor<1x1xf32>
  %3 = lowbit.quantize %2 scale(%s) zero(%z) : (tensor<1x1xf32>, tensor<f32>, tensor<ui8>) -> tensor<1x1xui8>
  %4 = lowbit.dequantize %y scale(%s) zero(%z16) : (tensor<1x4xi16>, tensor<f32>, tensor<i16>) -> tensor<1x4xf32>
  %5 = lowbit.dequantize %v scale(%s) zero(%z8) : (tensor<4x1xi8>, tensor<f32>, tensor<i8>) -> tensor<4x1xf32>
  %6 = "onnx.MatMul"(%4, %5) {onnx_node_name = "b"} : (tensor<1x4xf32>, tensor<4x1xf32>) -> tensor<1x1xf32>
  return %3, %6 : tensor<1x1xui8>, tensor<1x1xf32>
}

// -----

// Half-precision weights: a f16 constant with a scale of 1.

// CHECK-LABEL: func.func @half
// CHECK: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[1.000000e+00, 3.000000e+00], [2.000000e+00, 4.000000e+00]]> : tensor<2x2xf16>}>
// CHECK: %[[S:.*]] = "onnx.Constant"() <{value = dense<1.000000e+00> : tensor<f32>}>
// CHECK: lowbit.linear %{{.*}}, %[[W]] scale(%[[S]]) {layer = "fc"}
func.func @half(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %w = "onnx.Constant"() {value = dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf16>} : () -> tensor<2x2xf16>
  %0 = "onnx.Cast"(%w) {to = 1 : si64} : (tensor<2x2xf16>) -> tensor<2x2xf32>
  %1 = "onnx.MatMul"(%x, %0) {onnx_node_name = "fc"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  return %1 : tensor<1x2xf32>
}

// -----

// What does not fuse keeps its meaning and says why.

// CHECK-LABEL: func.func @left
// CHECK: lowbit.dequantize
// CHECK: "onnx.Gemm"
func.func @left(%x: tensor<2x2xf32>) -> tensor<2x2xf32> {
  %s = "onnx.Constant"() {value = dense<[0.5, 1.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %z = "onnx.Constant"() {value = dense<0> : tensor<2xi8>} : () -> tensor<2xi8>
  %w = "onnx.Constant"() {value = dense<1> : tensor<2x2xi8>} : () -> tensor<2x2xi8>
  %none = "onnx.NoValue"() {value} : () -> none
  %0 = lowbit.dequantize %w scale(%s) zero(%z) {axis = 1 : i64} : (tensor<2x2xi8>, tensor<2xf32>, tensor<2xi8>) -> tensor<2x2xf32>
  // expected-remark @+1 {{layer 'a' computes in float on dequantized weights: the scales of its weights run along axis 1}}
  %1 = "onnx.Gemm"(%x, %0, %none) {onnx_node_name = "a", transB = 1 : si64} : (tensor<2x2xf32>, tensor<2x2xf32>, none) -> tensor<2x2xf32>
  // expected-remark @+1 {{layer 'b' computes in float on dequantized weights: its activations are transposed (transA)}}
  %2 = "onnx.Gemm"(%1, %0, %none) {onnx_node_name = "b", transA = 1 : si64} : (tensor<2x2xf32>, tensor<2x2xf32>, none) -> tensor<2x2xf32>
  return %2 : tensor<2x2xf32>
}
