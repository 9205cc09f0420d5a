// RUN: lowbit-opt %s --split-input-file --lowbit-apply-recipe="recipe=int8-dynamic:algorithm=rtn" | FileCheck %s
// RUN: lowbit-opt %s --split-input-file --lowbit-apply-recipe="recipe=fp16" | FileCheck %s --check-prefix=HALF
// RUN: lowbit-opt %s --split-input-file --lowbit-apply-recipe="recipe=%S/Inputs/int16-activations.yaml" | FileCheck %s --check-prefix=WIDE
// RUN: lowbit-opt %s --split-input-file --lowbit-apply-recipe="recipe=%S/Inputs/groups-u8.yaml" | FileCheck %s --check-prefix=GROUPS

// A range of the run needs no statistics; two layers that read the same value quantize it once; convolutions take one range
// for the whole tensor. The bias stays in float, times beta.

// CHECK-LABEL: func.func @layers
// CHECK: %[[I:[a-z_0-9]+]], %[[IS:.*]], %[[IZ:.*]] = lowbit.dynamic_quantize %arg1 : tensor<1x1x4x4xf32> -> tensor<1x1x4x4xui8>, tensor<f32>, tensor<ui8>
// CHECK: %[[IMAGE:.*]] = lowbit.dequantize %[[I]] scale(%[[IS]]) zero(%[[IZ]]) :
// CHECK: %[[Q:[a-z_0-9]+]], %[[S:.*]], %[[Z:.*]] = lowbit.dynamic_quantize %arg0 {per_token} : tensor<?x2xf32> -> tensor<?x2xui8>, tensor<?x1xf32>, tensor<?x1xui8>
// CHECK: %[[X:.*]] = lowbit.dequantize %[[Q]] scale(%[[S]]) zero(%[[Z]]) {axis = 1 : i64, group = 2 : i64}
// CHECK-NOT: per_token
// CHECK: "onnx.MatMul"(%[[X]], %{{.*}}activations = "u8", {{.*}}dynamic = "token"
// CHECK: %[[B:.*]] = "onnx.Constant"() <{value = dense<[1.000000e+00, -2.000000e+00]> : tensor<2xf32>}>
// CHECK: "onnx.Gemm"(%[[X]], %{{.*}}, %[[B]]) <{alpha = 1.000000e+00 : f32, beta = 1.000000e+00 : f32
// CHECK: "onnx.Conv"(%[[IMAGE]], {{.*}}dynamic = "tensor"

// Weights as f16; 1/3 is rounded.

// HALF-LABEL: func.func @layers
// HALF: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{.*}}3.332520e-01{{.*}} : tensor<2x2xf16>}>
// HALF: "onnx.Cast"(%[[W]]) <{round_mode = "up", saturate = 1 : si64, to = 1 : si64}> : (tensor<2x2xf16>) -> tensor<2x2xf32>
// HALF: "onnx.MatMul"{{.*}}activations = "float", bytes = 8 : i64, {{.*}}weights = "f16"}

// 16-bit activations: no accumulator of 32 bits, so the bias stays in float.

// WIDE-LABEL: func.func @layers
// WIDE: lowbit.quantize %arg0 {{.*}} -> tensor<?x2xi16>
// WIDE: "onnx.Gemm"{{.*}}activations = "i16"
// WIDE-SAME: tensor<2xf32>) -> tensor<?x2xf32>

// Groups of 3-bit weights beside 8-bit activations: 3 bits, a scale and a zero point of 3 bits per group: (4 * 3 + 7) / 8 + 2 * 4 + (2 * 3 + 7) / 8 bytes.

// GROUPS-LABEL: func.func @layers
// GROUPS: lowbit.dequantize %{{.*}} {axis = 0 : i64, group = 2 : i64} : (tensor<2x2xui3>, tensor<1x2xf32>, tensor<1x2xui3>) -> tensor<2x2xf32>
// GROUPS: "onnx.MatMul"{{.*}}activations = "u8", {{.*}}bytes = 11 : i64
func.func @layers(%x: tensor<?x2xf32>, %image: tensor<1x1x4x4xf32>) -> (tensor<?x2xf32>, tensor<?x2xf32>, tensor<1x1x4x4xf32>) {
  %w = "onnx.Constant"() {value = dense<[[2.0, 0.333333343], [0.0, -2.0]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %b = "onnx.Constant"() {value = dense<[2.0, -4.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %f = "onnx.Constant"() {value = dense<0.5> : tensor<1x1x1x1xf32>} : () -> tensor<1x1x1x1xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  lowbit.observe %x "a:input" {stats = #lowbit.stats<min = -1.0 : f32, max = 1.0 : f32>} : tensor<?x2xf32>
  lowbit.observe %x "b:input" {stats = #lowbit.stats<min = -1.0 : f32, max = 1.0 : f32>} : tensor<?x2xf32>
  lowbit.observe %image "c:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32>} : tensor<1x1x4x4xf32>
  %0 = "onnx.MatMul"(%x, %w) {onnx_node_name = "a"} : (tensor<?x2xf32>, tensor<2x2xf32>) -> tensor<?x2xf32>
  %1 = "onnx.Gemm"(%x, %w, %b) {onnx_node_name = "b", beta = 0.5 : f32} : (tensor<?x2xf32>, tensor<2x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
  %2 = "onnx.Conv"(%image, %f, %none) {onnx_node_name = "c"} : (tensor<1x1x4x4xf32>, tensor<1x1x1x1xf32>, none) -> tensor<1x1x4x4xf32>
  return %0, %1, %2 : tensor<?x2xf32>, tensor<?x2xf32>, tensor<1x1x4x4xf32>
}
