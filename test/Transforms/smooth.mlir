// RUN: lowbit-opt %s --lowbit-smooth --split-input-file --verify-diagnostics | FileCheck %s
// RUN: lowbit-opt %s --pass-pipeline='builtin.module(lowbit-smooth{alpha=-1})' --split-input-file -verify-diagnostics | FileCheck %s --check-prefix=CHOSEN

// Ranges 1, 64; outputs amount to √(1/9 + 0.25 · 64²/9) = 10.7 and 21.3 (no absmean: a third of the range), so weights are
// 1/10.7 and 1/21.3: scales 1 and √(64 · 2) = 11.3 with alpha = 0.5, less their middle.
// CHECK-LABEL: func @outlier
// CHOSEN-LABEL: func @outlier
func.func @outlier(%x: tensor<1x?x2xf32>) -> tensor<1x?x2xf32> {
  // CHECK-DAG: %[[G:.*]] = "onnx.Constant"() <{value = dense<[3.363{{[0-9]*}}, 0.297{{[0-9]*}}]> : tensor<2xf32>}> {onnx_name = "gain"}
  // CHECK-DAG: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[\[}}0.297{{[0-9]*}}, -0.148{{[0-9]*}}], [1.681{{[0-9]*}}, 3.363{{[0-9]*}}]]> : tensor<2x2xf32>}>
  // CHECK-DAG: lowbit.observe %{{.*}} "fc:input" {stats = #lowbit.stats<min = -19.029{{[0-9]*}} : f32, max = 9.514{{[0-9]*}} : f32, channel_min = dense<[-3.363{{[0-9]*}}, -19.029{{[0-9]*}}]> : tensor<2xf32>
  // CHECK-DAG: "onnx.MatMul"(%{{.*}}, %[[W]])
  // CHOSEN-NOT: dense<1.000000e+00> : tensor<2xf32>}> {onnx_name = "gain"}
  // CHOSEN: "onnx.MatMul"
  %gain = "onnx.Constant"() {value = dense<1.0> : tensor<2xf32>, onnx_name = "gain"} : () -> tensor<2xf32>
  %w = "onnx.Constant"() {value = dense<[[1.0, -0.5], [0.5, 1.0]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %0 = "onnx.RMSNormalization"(%x, %gain) : (tensor<1x?x2xf32>, tensor<2xf32>) -> tensor<1x?x2xf32>
  lowbit.observe %0 "fc:input" {stats = #lowbit.stats<min = -64.0 : f32, max = 32.0 : f32, histogram = dense<[[-64.0, 32.0, 10.0]]> : tensor<1x3xf64>, channel_min = dense<[-1.0, -64.0]> : tensor<2xf32>, channel_max = dense<[0.5, 32.0]> : tensor<2xf32>>} : tensor<1x?x2xf32>
  %1 = "onnx.MatMul"(%0, %w) {onnx_node_name = "fc"} : (tensor<1x?x2xf32>, tensor<2x2xf32>) -> tensor<1x?x2xf32>
  return %1 : tensor<1x?x2xf32>
}

// -----

// CHECK-LABEL: func @fixed
func.func @fixed(%x: tensor<1x2xf32>) -> tensor<1x1xf32> {
  // CHECK-DAG: dense<1.000000e+00> : tensor<2x1xf32>
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  lowbit.observe %x "fc:input" {stats = #lowbit.stats<min = -1.0 : f32, max = 64.0 : f32, channel_min = dense<[-1.0, 0.0]> : tensor<2xf32>, channel_max = dense<[1.0, 64.0]> : tensor<2xf32>>} : tensor<1x2xf32>
  // expected-remark @+1 {{layer 'fc' is not smoothed: its input is fixed, because it is an input of the model}}
  %1 = "onnx.MatMul"(%x, %w) {onnx_node_name = "fc"} : (tensor<1x2xf32>, tensor<2x1xf32>) -> tensor<1x1xf32>
  return %1 : tensor<1x1xf32>
}
