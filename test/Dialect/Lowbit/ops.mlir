// RUN: lowbit-opt %s | lowbit-opt | FileCheck %s

// CHECK-LABEL: func.func @quantize
func.func @quantize(%x: tensor<?x64xf32>, %s: tensor<f32>, %z: tensor<ui8>, %gs: tensor<2x64xf32>, %gz: tensor<2x64xi8>) {
  // CHECK: lowbit.quantize %{{.*}} scale(%{{.*}}) zero(%{{.*}}) : (tensor<?x64xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x64xui8>
  %q = lowbit.quantize %x scale(%s) zero(%z) : (tensor<?x64xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x64xui8>
  // CHECK: lowbit.dequantize
  %d = lowbit.dequantize %q scale(%s) zero(%z) : (tensor<?x64xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x64xf32>
  // CHECK: {axis = 0 : i64, group = 32 : i64}
  %g = lowbit.quantize %x scale(%gs) zero(%gz) {axis = 0 : i64, group = 32 : i64} : (tensor<?x64xf32>, tensor<2x64xf32>, tensor<2x64xi8>) -> tensor<?x64xi8>
  // CHECK: lowbit.observe %{{.*}} "conv1:input" {stats = #lowbit.stats<min = -1.000000e+00 : f32, max = 2.500000e+00 : f32>} : tensor<?x64xf32>
  lowbit.observe %x "conv1:input" {stats = #lowbit.stats<min = -1.0 : f32, max = 2.5 : f32>} : tensor<?x64xf32>
  // CHECK: lowbit.observe %{{.*}} "fc:input" {channel_axis = 0 : i64, stats = #lowbit.stats<min = -1.000000e+00 : f32, max = 2.500000e+00 : f32,
  // CHECK-SAME: average_min = -5.000000e-01 : f32, average_max = 2.000000e+00 : f32,
  // CHECK-SAME: histogram = dense<{{.*}}> : tensor<2x3xf64>,
  // CHECK-SAME: channel_min = dense<[-1.000000e+00, 0.000000e+00]> : tensor<2xf32>,
  // CHECK-SAME: channel_max = dense<[2.500000e+00, 1.000000e+00]> : tensor<2xf32>,
  // CHECK-SAME: channel_mean = dense<[1.000000e+00, 5.000000e-01]> : tensor<2xf32>,
  // CHECK-SAME: channel_absmean = dense<[1.500000e+00, 5.000000e-01]> : tensor<2xf32>,
  // CHECK-SAME: moments = dense<1.000000e+00> : tensor<3x3xf32>>} : tensor<2x64xf32>
  // The order in which they are written does not matter.
  lowbit.observe %gs "fc:input" {channel_axis = 0 : i64, stats = #lowbit.stats<min = -1.0 : f32, max = 2.5 : f32,
    moments = dense<1.0> : tensor<3x3xf32>, channel_absmean = dense<[1.5, 0.5]> : tensor<2xf32>,
    channel_mean = dense<[1.0, 0.5]> : tensor<2xf32>, channel_min = dense<[-1.0, 0.0]> : tensor<2xf32>,
    channel_max = dense<[2.5, 1.0]> : tensor<2xf32>, average_min = -0.5 : f32, average_max = 2.0 : f32,
    histogram = dense<[[-1.0, 0.0, 5.0], [0.5, 2.5, 7.0]]> : tensor<2x3xf64>>} : tensor<2x64xf32>
  return
}

// CHECK-LABEL: func.func @linear
func.func @linear(%q: tensor<?x4xui8>, %x: tensor<2x?x4xf32>, %w: tensor<3x4xi8>, %u: tensor<3x4xui4>, %b: tensor<3xi32>,
                  %s: tensor<f32>, %z: tensor<ui8>, %ws: tensor<3xf32>, %gs: tensor<3x2xf32>, %gz: tensor<3x2xui4>) {
  // CHECK: lowbit.linear %{{.*}}, %{{.*}} scale(%{{.*}}) bias(%{{.*}}) input_scale(%{{.*}}) input_zero(%{{.*}}) output_scale(%{{.*}}) output_zero(%{{.*}}) {layer = "fc", relu}
  %0 = lowbit.linear %q, %w scale(%ws) bias(%b) input_scale(%s) input_zero(%z) output_scale(%s) output_zero(%z) {layer = "fc", relu}
     : (tensor<?x4xui8>, tensor<3x4xi8>, tensor<3xf32>, tensor<3xi32>, tensor<f32>, tensor<ui8>, tensor<f32>, tensor<ui8>) -> tensor<?x3xui8>
  // CHECK: lowbit.linear %{{.*}}, %{{.*}} scale(%{{.*}}) zero(%{{.*}}) {group = 3 : i64}
  %1 = lowbit.linear %x, %u scale(%gs) zero(%gz) {group = 3 : i64} : (tensor<2x?x4xf32>, tensor<3x4xui4>, tensor<3x2xf32>, tensor<3x2xui4>) -> tensor<2x?x3xf32>
  return
}

// CHECK-LABEL: func.func @conv_gather
func.func @conv_gather(%q: tensor<?x4x8x8xi8>, %w: tensor<6x2x3x3xi8>, %ws: tensor<6xf32>, %s: tensor<f32>, %z: tensor<i8>,
                       %t: tensor<9x4xi4>, %ts: tensor<9x2xf32>, %ids: tensor<?x3xi64>) {
  // CHECK: lowbit.conv {{.*}} {dilations = array<i64: 1, 1>, groups = 2 : i64, pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>}
  %0 = lowbit.conv %q, %w scale(%ws) input_scale(%s) input_zero(%z)
     {strides = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>, groups = 2 : i64}
     : (tensor<?x4x8x8xi8>, tensor<6x2x3x3xi8>, tensor<6xf32>, tensor<f32>, tensor<i8>) -> tensor<?x6x8x8xf32>
  // CHECK: lowbit.gather %{{.*}}[%{{.*}}] scale(%{{.*}}) {group = 2 : i64}
  %1 = lowbit.gather %t[%ids] scale(%ts) {group = 2 : i64} : (tensor<9x4xi4>, tensor<?x3xi64>, tensor<9x2xf32>) -> tensor<?x3x4xf32>
  return
}
