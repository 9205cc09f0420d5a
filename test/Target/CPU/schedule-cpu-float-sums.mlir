// RUN: lowbit-opt %s --lowbit-schedule-cpu --split-input-file --verify-diagnostics | FileCheck %s

// A range per row: rows are quantized by a kernel of their own; scales and zero points of the rows, one group of weights.

// CHECK-DAG: lowbit_rt.kernel @rowquant_0 generator("cpu.rowquant") schedule({chunk = 8 : i64, k = 5 : i64, signed = 0 : i64, symmetric = 0 : i64})
// CHECK-DAG: lowbit_rt.kernel @qgemm_1 generator("cpu.qgemm") schedule({bias = 1 : i64, {{.*}}group_steps = 2 : i64, length = 5 : i64,{{.*}} per_row = 1 : i64, relu = 1 : i64
// CHECK-LABEL: func.func @per_token
// CHECK: lowbit_rt.launch @rowquant_0 ins(%{{.*}} : tensor<?x5xf32>) outs(%{{.*}} : tensor<?x5xi8>, tensor<?xf32>, tensor<?xi8>)
// CHECK: tensor.pad {{.*}} low[0, 0] high[0, 3]
// CHECK: arith.constant dense<[15, -15, 0,
// CHECK: arith.extui
// CHECK: lowbit_rt.launch @qgemm_1 ins({{.*}} : tensor<?x8xi8>, tensor<128xi8>, tensor<16xf32>, tensor<16xf32>, tensor<16xi32>, tensor<?xf32>, tensor<?xi32>) outs({{.*}} : tensor<?x2xf32>) {layer = "fc"}
func.func @per_token(%x: tensor<?x5xf32>) -> tensor<?x2xf32> {
  %w = arith.constant dense<[[1, 2, 3, 4, 5], [-1, -2, -3, -4, -5]]> : tensor<2x5xi8>
  %ws = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %b = arith.constant dense<[0.5, -0.5]> : tensor<2xf32>
  %q, %s, %z = lowbit.dynamic_quantize %x {per_token} : tensor<?x5xf32> -> tensor<?x5xui8>, tensor<?x1xf32>, tensor<?x1xui8>
  %y = lowbit.linear %q, %w scale(%ws) bias(%b) input_scale(%s) input_zero(%z) {relu, layer = "fc"}
    : (tensor<?x5xui8>, tensor<2x5xi8>, tensor<2xf32>, tensor<2xf32>, tensor<?x1xf32>, tensor<?x1xui8>) -> tensor<?x2xf32>
  return %y : tensor<?x2xf32>
}

// -----

// Groups of 4-bit weights: less their zero points, (1 + 2 + 3 + 4) - 4 * 8 = -22 and 5 - 7 = -2.

// CHECK: lowbit_rt.kernel @qgemm_0 generator("cpu.qgemm") schedule({bias = 0 : i64, {{.*}}group_steps = 1 : i64, {{.*}}per_row = 0 : i64
// CHECK-LABEL: func.func @groups
// CHECK: arith.constant dense<"0xF9FAFBFC
// CHECK: arith.constant dense<[-22, 0, {{.*}}-2, 0, {{.*}} : tensor<32xi32>
// CHECK: lowbit_rt.launch @qgemm_0
func.func @groups(%x: tensor<3x5xui8>) -> tensor<3x1xf32> {
  %w = "onnx.Constant"() {value = dense<[[1, 2, 3, 4, 5]]> : tensor<1x5xui4>} : () -> tensor<1x5xui4>
  %ws = arith.constant dense<[[1.0, 2.0]]> : tensor<1x2xf32>
  %wz = "onnx.Constant"() {value = dense<[[8, 7]]> : tensor<1x2xui4>} : () -> tensor<1x2xui4>
  %xs = arith.constant dense<0.5> : tensor<f32>
  %xz = "onnx.Constant"() {value = dense<3> : tensor<ui8>} : () -> tensor<ui8>
  %y = lowbit.linear %x, %w scale(%ws) zero(%wz) input_scale(%xs) input_zero(%xz) {group = 4 : i64, layer = "fc"}
    : (tensor<3x5xui8>, tensor<1x5xui4>, tensor<1x2xf32>, tensor<1x2xui4>, tensor<f32>, tensor<ui8>) -> tensor<3x1xf32>
  return %y : tensor<3x1xf32>
}

// -----

// What the kernel does not take stays, and says why.

// CHECK-LABEL: func.func @left
func.func @left(%x: tensor<3x5xi16>, %y: tensor<3x5xui8>, %f: tensor<3x5xf32>) -> (tensor<3x1xf32>, tensor<3x1xf32>, tensor<3x5xui8>) {
  %w = arith.constant dense<1> : tensor<1x5xi8>
  %s = arith.constant dense<1.0> : tensor<f32>
  %ws = arith.constant dense<1.0> : tensor<1x2xf32>
  %z16 = arith.constant dense<0> : tensor<i16>
  %z = "onnx.Constant"() {value = dense<3> : tensor<ui8>} : () -> tensor<ui8>
  // expected-remark @+1 {{no CPU kernel: activations are not 8 bits wide}}
  %0 = lowbit.linear %x, %w scale(%s) input_scale(%s) input_zero(%z16) : (tensor<3x5xi16>, tensor<1x5xi8>, tensor<f32>, tensor<f32>, tensor<i16>) -> tensor<3x1xf32>
  // expected-remark @+1 {{no CPU kernel: groups of 3, which four do not divide}}
  %1 = lowbit.linear %y, %w scale(%ws) input_scale(%s) input_zero(%z) {group = 3 : i64} : (tensor<3x5xui8>, tensor<1x5xi8>, tensor<1x2xf32>, tensor<f32>, tensor<ui8>) -> tensor<3x1xf32>
  // expected-remark @+1 {{no CPU kernel: one range for the whole tensor}}
  %q, %qs, %qz = lowbit.dynamic_quantize %f : tensor<3x5xf32> -> tensor<3x5xui8>, tensor<f32>, tensor<ui8>
  return %0, %1, %q : tensor<3x1xf32>, tensor<3x1xf32>, tensor<3x5xui8>
}
