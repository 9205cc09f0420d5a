// RUN: split-file %s %t
// RUN: lowbit-opt %t/input.mlir --pass-pipeline='builtin.module(lowbit-awq-scale{recipe=%t/recipe.yaml})' --verify-diagnostics | FileCheck %t/input.mlir

//--- recipe.yaml
lowbit: 1
rules:
  - match: {op: MatMul}
    weights: {type: i4, per: channel}

//--- input.mlir
// The first channel is 64 times as large as the second, and its weight, small beside the other, would be rounded to 0.
// It grows; the gain in front of it shrinks by as much.
// CHECK-LABEL: func @outlier
func.func @outlier(%x: tensor<1x?x2xf32>) -> tensor<1x?x1xf32> {
  // CHECK-DAG: dense<[0.{{[0-9]*}}, {{[1-9][0-9.e+]*}}]> : tensor<2xf32>}> {onnx_name = "gain"}
  // CHECK-NOT: dense<{{.*}}5.000000e-02], [1.000000e+00
  // CHECK: lowbit.observe
  %gain = "onnx.Constant"() {value = dense<1.0> : tensor<2xf32>, onnx_name = "gain"} : () -> tensor<2xf32>
  %w = "onnx.Constant"() {value = dense<[[0.05], [1.0]]> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  %0 = "onnx.RMSNormalization"(%x, %gain) : (tensor<1x?x2xf32>, tensor<2xf32>) -> tensor<1x?x2xf32>
  lowbit.observe %0 "fc:input" {stats = #lowbit.stats<min = -64.0 : f32, max = 64.0 : f32, channel_absmean = dense<[32.0, 0.5]> : tensor<2xf32>>} : tensor<1x?x2xf32>
  %1 = "onnx.MatMul"(%0, %w) {onnx_node_name = "fc"} : (tensor<1x?x2xf32>, tensor<2x1xf32>) -> tensor<1x?x1xf32>
  return %1 : tensor<1x?x1xf32>
}

func.func @fixed(%x: tensor<1x2xf32>) -> tensor<1x1xf32> {
  %w = "onnx.Constant"() {value = dense<[[0.05], [1.0]]> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  lowbit.observe %x "fixed:input" {stats = #lowbit.stats<min = -64.0 : f32, max = 64.0 : f32, channel_absmean = dense<[32.0, 0.5]> : tensor<2xf32>>} : tensor<1x2xf32>
  // expected-remark @+1 {{layer 'fixed' gets no input scales: its input is fixed, because it is an input of the model}}
  %1 = "onnx.MatMul"(%x, %w) {onnx_node_name = "fixed"} : (tensor<1x2xf32>, tensor<2x1xf32>) -> tensor<1x1xf32>
  return %1 : tensor<1x1xf32>
}
