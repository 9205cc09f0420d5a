// RUN: lowbit-opt %s --split-input-file --lowbit-apply-recipe="recipe=int8:calibration=minmax" | FileCheck %s
// RUN: lowbit-opt %s --split-input-file --lowbit-apply-recipe="recipe=int4:group=3,head=same,algorithm=rtn" | FileCheck %s --check-prefix=INT4

// 8-bit weights: one scale per column, absmax / 127. The range [-1, 1.55] of the input has 255 steps of 0.01 and zero
// point 100. The bias has the scale of the accumulator: 0.5 / (0.01 * 0.01) = 5000.

// CHECK-LABEL: func.func @matmul_bias
// CHECK-SAME: (%[[X:.*]]: tensor<?x4xf32>)
// CHECK: %[[XS:.*]] = "onnx.Constant"() <{value = dense<0.00999999977> : tensor<f32>}>
// CHECK: %[[XZ:.*]] = "onnx.Constant"() <{value = dense<100> : tensor<ui8>}>
// CHECK: %[[Q:.*]] = lowbit.quantize %[[X]] scale(%[[XS]]) zero(%[[XZ]])
// CHECK: %[[DX:.*]] = lowbit.dequantize %[[Q]] scale(%[[XS]]) zero(%[[XZ]])
// CHECK: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[100, -64], [50, 127], [-127, 8], [0, 32]]> : tensor<4x2xi8>}> {onnx_name = "W"}
// CHECK: %[[WS:.*]] = "onnx.Constant"() <{value = dense<[0.00999999977, 0.0314960629]> : tensor<2xf32>}>
// CHECK: %[[DW:.*]] = lowbit.dequantize %[[W]] scale(%[[WS]]) zero(%{{.*}}) {axis = 1 : i64}
// CHECK: %[[B:.*]] = "onnx.Constant"() <{value = dense<[5000, -3175]> : tensor<2xi32>}>
// CHECK: %[[DB:.*]] = lowbit.dequantize %[[B]]
// CHECK: %[[Y:.*]] = "onnx.MatMul"(%[[DX]], %[[DW]])
// CHECK-SAME: lowbit.decision = {activations = "u8", algorithm = "rtn", {{.*}}bytes = 16 : i64, {{.*}}fp32_bytes = 32 : i64, group = 0 : i64, {{.*}}op = "MatMul", per = "channel", rule = "int8:{{.*}}", weights = "i8"}
// CHECK: "onnx.Add"(%[[Y]], %[[DB]])
// CHECK-NOT: lowbit.observe

// 4-bit weights in groups of 3 along K, the last one partial: scales [groups, columns]. Activations and bias stay.

// INT4-LABEL: func.func @matmul_bias
// INT4-SAME: (%[[X:.*]]: tensor<?x4xf32>)
// INT4: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[15, 0], [11, 15], [0, 6], [0, 15]]> : tensor<4x2xui4>}>
// INT4: %[[WS:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[0.151333332, 4.000000e-01], [1.000000e+00, 0.0666666701]]> : tensor<2x2xf32>}>
// INT4: %[[WZ:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[8, 5], [0, 0]]> : tensor<2x2xui4>}>
// INT4: %[[DW:.*]] = lowbit.dequantize %[[W]] scale(%[[WS]]) zero(%[[WZ]]) {axis = 0 : i64, group = 3 : i64}
// INT4: "onnx.MatMul"(%[[X]], %[[DW]]) {lowbit.decision = {activations = "float"
// INT4-NOT: lowbit.observe
func.func @matmul_bias(%x: tensor<?x4xf32>) -> tensor<?x2xf32> {
  %w = "onnx.Constant"() {value = dense<[[1.0, -2.0], [0.5, 4.0], [-1.27, 0.25], [0.0, 1.0]]> : tensor<4x2xf32>, onnx_name = "W"} : () -> tensor<4x2xf32>
  %b = "onnx.Constant"() {value = dense<[0.5, -1.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  lowbit.observe %x "fc:input" {stats = #lowbit.stats<min = -1.0 : f32, max = 1.55 : f32>} : tensor<?x4xf32>
  %0 = "onnx.MatMul"(%x, %w) {onnx_node_name = "fc"} : (tensor<?x4xf32>, tensor<4x2xf32>) -> tensor<?x2xf32>
  %1 = "onnx.Add"(%0, %b) {onnx_node_name = "add"} : (tensor<?x2xf32>, tensor<2xf32>) -> tensor<?x2xf32>
  return %1 : tensor<?x2xf32>
}

// -----

// Two layers that read the same value share one quantize. Gemm's alpha and beta go into weights and bias.

// CHECK-LABEL: func.func @shared_input
// CHECK-COUNT-1: lowbit.quantize
// CHECK-NOT: lowbit.quantize
// CHECK: value = dense<{{\[}}[127, 64], [-127, 32]]> : tensor<2x2xi8>
// CHECK: "onnx.Gemm"(%[[DX:[^,]*]],{{.*}}alpha = 1.000000e+00 : f32, beta = 1.000000e+00 : f32
// CHECK: "onnx.MatMul"(%[[DX]],
func.func @shared_input(%x: tensor<1x2xf32>) -> (tensor<1x2xf32>, tensor<1x1xf32>) {
  %w = "onnx.Constant"() {value = dense<[[4.0, 2.0], [-4.0, 1.0]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %v = "onnx.Constant"() {value = dense<[[1.0], [2.0]]> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  %c = "onnx.Constant"() {value = dense<[[1.0, 2.0]]> : tensor<1x2xf32>} : () -> tensor<1x2xf32>
  lowbit.observe %x "a:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 255.0 : f32>} : tensor<1x2xf32>
  lowbit.observe %x "b:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 255.0 : f32>} : tensor<1x2xf32>
  %0 = "onnx.Gemm"(%x, %w, %c) {onnx_node_name = "a", alpha = 0.5 : f32, beta = 2.0 : f32, transB = 1 : si64} : (tensor<1x2xf32>, tensor<2x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
  %1 = "onnx.MatMul"(%x, %v) {onnx_node_name = "b"} : (tensor<1x2xf32>, tensor<2x1xf32>) -> tensor<1x1xf32>
  return %0, %1 : tensor<1x2xf32>, tensor<1x1xf32>
}

// -----

// Filters in groups are quantized as a matrix [F, K] and shaped back; embeddings one scale per row; a product of two
// activations stays in float, with the reason.

// INT4-LABEL: func.func @others
// INT4: lowbit.dequantize %{{.*}} {axis = 0 : i64} : (tensor<3x4xi8>, tensor<3xf32>, tensor<3xi8>) -> tensor<3x4xf32>
// INT4: %[[F:.*]] = lowbit.dequantize %{{.*}} {axis = 1 : i64, group = 3 : i64} : (tensor<1x4xui4>, tensor<1x2xf32>, tensor<1x2xui4>) -> tensor<1x4xf32>
// INT4: %[[W:.*]] = tensor.expand_shape %[[F]] {{\[}}[0], [1, 2, 3]] output_shape [1, 1, 2, 2] : tensor<1x4xf32> into tensor<1x1x2x2xf32>
// INT4: "onnx.Gather"
// INT4: "onnx.Conv"(%{{.*}}, %[[W]]
// INT4: "onnx.MatMul"{{.*}}lowbit.decision = {name = "square", op = "MatMul", quantizable = false, reason = "its weights are not constant", weights = "float"}
func.func @others(%ids: tensor<4xi64>, %x: tensor<1x1x4x4xf32>) -> (tensor<4x4xf32>, tensor<1x1x3x3xf32>) {
  %table = "onnx.Constant"() {value = dense<1.0> : tensor<3x4xf32>} : () -> tensor<3x4xf32>
  %w = "onnx.Constant"() {value = dense<[[[[1.0, 2.0], [3.0, 4.0]]]]> : tensor<1x1x2x2xf32>} : () -> tensor<1x1x2x2xf32>
  %none = "onnx.NoValue"() {value} : () -> none
  lowbit.observe %x "conv:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32>} : tensor<1x1x4x4xf32>
  %0 = "onnx.Gather"(%table, %ids) {onnx_node_name = "emb"} : (tensor<3x4xf32>, tensor<4xi64>) -> tensor<4x4xf32>
  %1 = "onnx.Conv"(%x, %w, %none) {onnx_node_name = "conv"} : (tensor<1x1x4x4xf32>, tensor<1x1x2x2xf32>, none) -> tensor<1x1x3x3xf32>
  %2 = "onnx.MatMul"(%0, %0) {onnx_node_name = "square"} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return %2, %1 : tensor<4x4xf32>, tensor<1x1x3x3xf32>
}

// -----

// linalg named ops are layers too; their constants are arith.constant where the type allows it.

// CHECK-LABEL: func.func @linalg
// CHECK: %[[W:.*]] = arith.constant dense<{{\[}}[127, 64], [0, -127]]> : tensor<2x2xi8>
// CHECK: %[[DW:.*]] = lowbit.dequantize %[[W]]
// CHECK: linalg.matmul {lowbit.decision = {activations = "u8", {{.*}}op = "linalg.matmul"{{.*}}} ins(%{{.*}}, %[[DW]]
func.func @linalg(%x: tensor<3x2xf32>) -> tensor<3x2xf32> {
  %w = arith.constant dense<[[2.0, 1.0], [0.0, -2.0]]> : tensor<2x2xf32>
  %init = arith.constant dense<0.0> : tensor<3x2xf32>
  lowbit.observe %x "fc:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32>} : tensor<3x2xf32>
  %0 = linalg.matmul {lowbit.layer = "fc"} ins(%x, %w : tensor<3x2xf32>, tensor<2x2xf32>) outs(%init : tensor<3x2xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}
