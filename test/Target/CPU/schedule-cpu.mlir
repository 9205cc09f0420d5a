// RUN: lowbit-opt %s --lowbit-schedule-cpu --split-input-file --verify-diagnostics | FileCheck %s

// An int8 linear layer: weights packed four bytes along K by 16 columns, the zero point folded into the bias
// (10 - 3 * (1+2+3+4+5+6+7) = -74), one multiplier per channel (0.5 * 1.0 / 2.0 = 0.25).

// CHECK: lowbit_rt.kernel @qgemm_0 generator("cpu.qgemm") schedule({chunk = 96 : i64, conv = 0 : i64, length = 7 : i64,
// CHECK-SAME: n = 2 : i64, nr = 1 : i64, output_max = 255 : i64, output_min = 0 : i64, output_zero = 9 : i64, relu = 1 : i64
// CHECK-LABEL: func.func @linear
func.func @linear(%x: tensor<?x7xui8>) -> tensor<?x2xui8> {
  %w = arith.constant dense<[[1, 2, 3, 4, 5, 6, 7], [-1, -2, -3, -4, -5, -6, -7]]> : tensor<2x7xi8>
  %ws = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %xs = arith.constant dense<0.5> : tensor<f32>
  %xz = "onnx.Constant"() {value = dense<3> : tensor<ui8>} : () -> tensor<ui8>
  %os = arith.constant dense<2.0> : tensor<f32>
  %oz = "onnx.Constant"() {value = dense<9> : tensor<ui8>} : () -> tensor<ui8>
  %b = arith.constant dense<[10, 20]> : tensor<2xi32>
  // Reads go by four bytes, so K is padded to 8.
  // CHECK: tensor.pad {{.*}} low[0, 0] high[0, 1]
  // CHECK: arith.constant dense<"0x01020304FFFEFDFC
  // CHECK: arith.constant dense<[-74, 104, 0,
  // CHECK: arith.constant dense<[2.500000e-01, 5.000000e-01, 0.000000e+00,
  // CHECK: lowbit_rt.launch @qgemm_0 ins({{.*}} : tensor<?x8xi8>, tensor<128xi8>, tensor<16xi32>, tensor<16xf32>) outs({{.*}} : tensor<?x2xi8>) {layer = "fc"}
  %y = lowbit.linear %x, %w scale(%ws) bias(%b) input_scale(%xs) input_zero(%xz) output_scale(%os) output_zero(%oz) {relu, layer = "fc"}
    : (tensor<?x7xui8>, tensor<2x7xi8>, tensor<2xf32>, tensor<2xi32>, tensor<f32>, tensor<ui8>, tensor<f32>, tensor<ui8>) -> tensor<?x2xui8>
  return %y : tensor<?x2xui8>
}

// -----

// Scale and zero point of the run: bias and multipliers are computed before the launch, b - z * sum(w) and
// f32(f64(s) * f64(w)).
// CHECK-LABEL: func.func @parameters_of_the_run
// CHECK: %[[B:.*]] = arith.constant dense<[10, 20, 0,
// CHECK: %[[SUMS:.*]] = arith.constant dense<[6, -3, 0,
// CHECK: %[[Z:.*]] = arith.extui %{{.*}} : i8 to i32
// CHECK: %[[BIAS:.*]] = linalg.generic {{.*}} ins(%[[B]], %[[SUMS]] :
// CHECK: arith.muli %{{.*}}, %[[Z]]
// CHECK-NEXT: arith.subi
// CHECK: %[[WS:.*]] = arith.constant dense<[1.000000e+00, 2.000000e+00, 0.000000e+00,
// CHECK: %[[M:.*]] = linalg.generic {{.*}} ins(%[[WS]] :
// CHECK: arith.mulf {{.*}} : f64
// CHECK-NEXT: arith.truncf
// CHECK: lowbit_rt.launch @qgemm_0 ins({{.*}}, %[[BIAS]], %[[M]] :
func.func @parameters_of_the_run(%x: tensor<?x4xui8>, %xs: tensor<f32>, %xz: tensor<ui8>) -> tensor<?x2xf32> {
  %w = arith.constant dense<[[1, 2, 3, 0], [-1, -2, 0, 0]]> : tensor<2x4xi8>
  %ws = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %b = arith.constant dense<[10, 20]> : tensor<2xi32>
  %y = lowbit.linear %x, %w scale(%ws) bias(%b) input_scale(%xs) input_zero(%xz) {layer = "fc"}
    : (tensor<?x4xui8>, tensor<2x4xi8>, tensor<2xf32>, tensor<2xi32>, tensor<f32>, tensor<ui8>) -> tensor<?x2xf32>
  return %y : tensor<?x2xf32>
}

// -----

// A signed input is read + 128: its zero point goes from -5 to 123, and 0 - 123 * 3 = -369.
// CHECK-LABEL: func.func @signed_input
func.func @signed_input(%x: tensor<4x4xi8>) -> tensor<4x1xf32> {
  %w = arith.constant dense<[[1, 1, 0, 1]]> : tensor<1x4xi8>
  %ws = arith.constant dense<1.0> : tensor<f32>
  %xs = arith.constant dense<1.0> : tensor<f32>
  %xz = arith.constant dense<-5> : tensor<i8>
  // CHECK: arith.xori
  // CHECK: arith.constant dense<[-369, 0,
  %y = lowbit.linear %x, %w scale(%ws) input_scale(%xs) input_zero(%xz)
    : (tensor<4x4xi8>, tensor<1x4xi8>, tensor<f32>, tensor<f32>, tensor<i8>) -> tensor<4x1xf32>
  return %y : tensor<4x1xf32>
}

// -----

// A convolution goes to NHWC; padding holds the zero point. Two equal layers share one kernel.
// CHECK-COUNT-1: lowbit_rt.kernel
// CHECK-NOT: lowbit_rt.kernel
// CHECK-LABEL: func.func @conv
func.func @conv(%x: tensor<1x4x8x8xui8>) -> (tensor<1x16x8x8xf32>, tensor<1x16x8x8xf32>) {
  %w = arith.constant dense<1> : tensor<16x4x3x3xi8>
  %ws = arith.constant dense<1.0> : tensor<16xf32>
  %xs = arith.constant dense<1.0> : tensor<f32>
  %xz = "onnx.Constant"() {value = dense<7> : tensor<ui8>} : () -> tensor<ui8>
  // CHECK: linalg.transpose ins({{.*}} : tensor<1x4x8x8xi8>) {{.*}} permutation = [0, 2, 3, 1]
  // CHECK: %[[ZERO:.*]] = arith.constant 7 : i8
  // CHECK: tensor.pad {{.*}} low[0, 1, 1, 0] high[0, 1, 1, 0]
  // CHECK: tensor.yield %[[ZERO]] : i8
  // CHECK: lowbit_rt.launch @[[K:.*]] ins({{.*}} : tensor<1x10x10x4xi8>
  // CHECK: linalg.transpose {{.*}} permutation = [0, 3, 1, 2]
  // CHECK: lowbit_rt.launch @[[K]] ins
  %y = lowbit.conv %x, %w scale(%ws) input_scale(%xs) input_zero(%xz)
    {strides = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>, layer = "a"}
    : (tensor<1x4x8x8xui8>, tensor<16x4x3x3xi8>, tensor<16xf32>, tensor<f32>, tensor<ui8>) -> tensor<1x16x8x8xf32>
  %z = lowbit.conv %x, %w scale(%ws) input_scale(%xs) input_zero(%xz)
    {strides = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>, layer = "b"}
    : (tensor<1x4x8x8xui8>, tensor<16x4x3x3xi8>, tensor<16xf32>, tensor<f32>, tensor<ui8>) -> tensor<1x16x8x8xf32>
  return %y, %z : tensor<1x16x8x8xf32>, tensor<1x16x8x8xf32>
}

// -----

// Weight-only: byte i of a row of K holds columns i and 16 + i.
// CHECK: lowbit_rt.kernel @wgemm_0 generator("cpu.wgemm") schedule({bits = 4 : i64, chunk = 96 : i64, group = 2 : i64, k = 3 : i64,
// CHECK-LABEL: func.func @weight_only
func.func @weight_only(%x: tensor<5x3xf32>) -> tensor<5x1xf32> {
  %w = "onnx.Constant"() {value = dense<[[1, 2, 15]]> : tensor<1x3xui4>} : () -> tensor<1x3xui4>
  %ws = arith.constant dense<[[0.5, 0.25]]> : tensor<1x2xf32>
  %wz = "onnx.Constant"() {value = dense<[[8, 7]]> : tensor<1x2xui4>} : () -> tensor<1x2xui4>
  // CHECK: arith.constant dense<[1, 0, {{.*}}, 2, 0, {{.*}}, 15, 0, {{.*}} : tensor<48xi8>
  // CHECK: lowbit_rt.launch @wgemm_0
  %y = lowbit.linear %x, %w scale(%ws) zero(%wz) {group = 2 : i64}
    : (tensor<5x3xf32>, tensor<1x3xui4>, tensor<1x2xf32>, tensor<1x2xui4>) -> tensor<5x1xf32>
  return %y : tensor<5x1xf32>
}

// -----

// What no family covers stays for its decomposition, and says so.
// CHECK-LABEL: func.func @depthwise
func.func @depthwise(%x: tensor<1x4x8x8xui8>) -> tensor<1x4x6x6xf32> {
  %w = arith.constant dense<1> : tensor<4x1x3x3xi8>
  %ws = arith.constant dense<1.0> : tensor<f32>
  %xz = "onnx.Constant"() {value = dense<7> : tensor<ui8>} : () -> tensor<ui8>
  // CHECK: lowbit.conv
  // expected-remark @+1 {{no CPU kernel: a grouped or depthwise convolution; runs as its decomposition}}
  %y = lowbit.conv %x, %w scale(%ws) input_scale(%ws) input_zero(%xz)
    {strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>, groups = 4 : i64}
    : (tensor<1x4x8x8xui8>, tensor<4x1x3x3xi8>, tensor<f32>, tensor<f32>, tensor<ui8>) -> tensor<1x4x6x6xf32>
  return %y : tensor<1x4x6x6xf32>
}
