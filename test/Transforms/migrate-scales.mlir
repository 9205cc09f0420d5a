// RUN: lowbit-opt %s --lowbit-migrate-scales --split-input-file --verify-diagnostics | FileCheck %s

// Two layers share the norm's result; one that asks for nothing follows.
// CHECK-LABEL: func @norm
func.func @norm(%x: tensor<1x?x2xf32>) -> (tensor<1x?x1xf32>, tensor<1x?x1xf32>) {
  // CHECK-DAG: %[[G:.*]] = "onnx.Constant"() <{value = dense<[5.000000e-01, 2.000000e+00]> : tensor<2xf32>}> {onnx_name = "gain"}
  // CHECK-DAG: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[\[}}2.000000e+00], [5.000000e-01]]> : tensor<2x1xf32>}> {onnx_name = "w"}
  // CHECK-DAG: %[[V:.*]] = "onnx.Constant"() <{value = dense<{{\[\[}}6.000000e+00], [1.500000e+00]]> : tensor<2x1xf32>}> {onnx_name = "v"}
  // CHECK-DAG: %[[N:.*]] = "onnx.RMSNormalization"(%arg0, %[[G]])
  // CHECK-DAG: "onnx.MatMul"(%[[N]], %[[W]])
  // CHECK-NOT: input_scales
  // CHECK-DAG: "onnx.MatMul"(%[[N]], %[[V]])
  %gain = "onnx.Constant"() {value = dense<1.0> : tensor<2xf32>, onnx_name = "gain"} : () -> tensor<2xf32>
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<2x1xf32>, onnx_name = "w"} : () -> tensor<2x1xf32>
  %v = "onnx.Constant"() {value = dense<3.0> : tensor<2x1xf32>, onnx_name = "v"} : () -> tensor<2x1xf32>
  %0 = "onnx.RMSNormalization"(%x, %gain) : (tensor<1x?x2xf32>, tensor<2xf32>) -> tensor<1x?x2xf32>
  %1 = "onnx.MatMul"(%0, %w) {lowbit.input_scales = dense<[2.0, 0.5]> : tensor<2xf32>} : (tensor<1x?x2xf32>, tensor<2x1xf32>) -> tensor<1x?x1xf32>
  %2 = "onnx.MatMul"(%0, %v) : (tensor<1x?x2xf32>, tensor<2x1xf32>) -> tensor<1x?x1xf32>
  return %1, %2 : tensor<1x?x1xf32>, tensor<1x?x1xf32>
}

// -----

// A norm that is spelled out: the Mul by a constant is its gain. What is divided by the root is not.
// CHECK-LABEL: func @decomposed
func.func @decomposed(%x: tensor<1x?x2xf32>) -> tensor<1x?x1xf32> {
  // CHECK-DAG: dense<[5.000000e-01, 2.000000e+00]> : tensor<2xf32>}> {onnx_name = "gain"}
  // CHECK-DAG: dense<{{\[\[}}2.000000e+00], [5.000000e-01]]> : tensor<2x1xf32>
  %gain = "onnx.Constant"() {value = dense<1.0> : tensor<2xf32>, onnx_name = "gain"} : () -> tensor<2xf32>
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  %axis = "onnx.Constant"() {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
  %two = "onnx.Constant"() {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
  %0 = "onnx.Pow"(%x, %two) : (tensor<1x?x2xf32>, tensor<f32>) -> tensor<1x?x2xf32>
  %1 = "onnx.ReduceMean"(%0, %axis) {keepdims = 1 : si64} : (tensor<1x?x2xf32>, tensor<1xi64>) -> tensor<1x?x1xf32>
  %2 = "onnx.Sqrt"(%1) : (tensor<1x?x1xf32>) -> tensor<1x?x1xf32>
  %3 = "onnx.Div"(%x, %2) : (tensor<1x?x2xf32>, tensor<1x?x1xf32>) -> tensor<1x?x2xf32>
  %4 = "onnx.Mul"(%gain, %3) : (tensor<2xf32>, tensor<1x?x2xf32>) -> tensor<1x?x2xf32>
  %5 = "onnx.MatMul"(%4, %w) {lowbit.input_scales = dense<[2.0, 0.5]> : tensor<2xf32>} : (tensor<1x?x2xf32>, tensor<2x1xf32>) -> tensor<1x?x1xf32>
  return %5 : tensor<1x?x1xf32>
}

// -----

// silu(gate) · up: the scales go into up.
// CHECK-LABEL: func @gated
func.func @gated(%x: tensor<1x?x1xf32>) -> tensor<1x?x1xf32> {
  // CHECK-DAG: dense<1.000000e+00> : tensor<1x2xf32>}> {onnx_name = "gate"}
  // CHECK-DAG: dense<{{\[\[}}5.000000e-01, 2.000000e+00]]> : tensor<1x2xf32>}> {onnx_name = "up"}
  // CHECK-DAG: dense<{{\[\[}}2.000000e+00], [5.000000e-01]]> : tensor<2x1xf32>}> {onnx_name = "down"}
  %gate = "onnx.Constant"() {value = dense<1.0> : tensor<1x2xf32>, onnx_name = "gate"} : () -> tensor<1x2xf32>
  %up = "onnx.Constant"() {value = dense<1.0> : tensor<1x2xf32>, onnx_name = "up"} : () -> tensor<1x2xf32>
  %down = "onnx.Constant"() {value = dense<1.0> : tensor<2x1xf32>, onnx_name = "down"} : () -> tensor<2x1xf32>
  %0 = "onnx.MatMul"(%x, %gate) : (tensor<1x?x1xf32>, tensor<1x2xf32>) -> tensor<1x?x2xf32>
  %1 = "onnx.Sigmoid"(%0) : (tensor<1x?x2xf32>) -> tensor<1x?x2xf32>
  %2 = "onnx.Mul"(%0, %1) : (tensor<1x?x2xf32>, tensor<1x?x2xf32>) -> tensor<1x?x2xf32>
  %3 = "onnx.MatMul"(%x, %up) : (tensor<1x?x1xf32>, tensor<1x2xf32>) -> tensor<1x?x2xf32>
  %4 = "onnx.Mul"(%2, %3) : (tensor<1x?x2xf32>, tensor<1x?x2xf32>) -> tensor<1x?x2xf32>
  %5 = "onnx.MatMul"(%4, %down) {lowbit.input_scales = dense<[2.0, 0.5]> : tensor<2xf32>} : (tensor<1x?x2xf32>, tensor<2x1xf32>) -> tensor<1x?x1xf32>
  return %5 : tensor<1x?x1xf32>
}

// -----

// One head of values is repeated for two heads of queries: a channel takes the geometric mean of its repeats' scales,
// 2 of 4 and 1, and 3 of 9 and 1.
// CHECK-LABEL: func @repeated
func.func @repeated(%x: tensor<1x?x1xf32>, %q: tensor<1x2x?x?xf32>) -> tensor<1x?x1xf32> {
  // CHECK-DAG: dense<{{\[\[}}5.000000e-01, 0.333333343]]> : tensor<1x2xf32>
  // CHECK-DAG: dense<{{\[\[}}2.000000e+00], [3.000000e+00], [2.000000e+00], [3.000000e+00]]> : tensor<4x1xf32>
  %v = "onnx.Constant"() {value = dense<1.0> : tensor<1x2xf32>} : () -> tensor<1x2xf32>
  %o = "onnx.Constant"() {value = dense<1.0> : tensor<4x1xf32>} : () -> tensor<4x1xf32>
  %heads = "onnx.Constant"() {value = dense<[1, -1, 1, 2]> : tensor<4xi64>} : () -> tensor<4xi64>
  %repeats = "onnx.Constant"() {value = dense<[1, 1, 2, 1, 1]> : tensor<5xi64>} : () -> tensor<5xi64>
  %merge = "onnx.Constant"() {value = dense<[1, 2, -1, 2]> : tensor<4xi64>} : () -> tensor<4xi64>
  %flat = "onnx.Constant"() {value = dense<[1, -1, 4]> : tensor<3xi64>} : () -> tensor<3xi64>
  %axis = "onnx.Constant"() {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
  %0 = "onnx.MatMul"(%x, %v) : (tensor<1x?x1xf32>, tensor<1x2xf32>) -> tensor<1x?x2xf32>
  %1 = "onnx.Reshape"(%0, %heads) : (tensor<1x?x2xf32>, tensor<4xi64>) -> tensor<1x?x1x2xf32>
  %2 = "onnx.Transpose"(%1) {perm = [0, 2, 1, 3]} : (tensor<1x?x1x2xf32>) -> tensor<1x1x?x2xf32>
  %3 = "onnx.Unsqueeze"(%2, %axis) : (tensor<1x1x?x2xf32>, tensor<1xi64>) -> tensor<1x1x1x?x2xf32>
  %4 = "onnx.Expand"(%3, %repeats) : (tensor<1x1x1x?x2xf32>, tensor<5xi64>) -> tensor<1x1x2x?x2xf32>
  %5 = "onnx.Reshape"(%4, %merge) : (tensor<1x1x2x?x2xf32>, tensor<4xi64>) -> tensor<1x2x?x2xf32>
  %p = "onnx.Softmax"(%q) {axis = -1 : si64} : (tensor<1x2x?x?xf32>) -> tensor<1x2x?x?xf32>
  %6 = "onnx.MatMul"(%p, %5) : (tensor<1x2x?x?xf32>, tensor<1x2x?x2xf32>) -> tensor<1x2x?x2xf32>
  %7 = "onnx.Transpose"(%6) {perm = [0, 2, 1, 3]} : (tensor<1x2x?x2xf32>) -> tensor<1x?x2x2xf32>
  %8 = "onnx.Reshape"(%7, %flat) : (tensor<1x?x2x2xf32>, tensor<3xi64>) -> tensor<1x?x4xf32>
  %9 = "onnx.MatMul"(%8, %o) {lowbit.input_scales = dense<[4.0, 9.0, 1.0, 1.0]> : tensor<4xf32>} : (tensor<1x?x4xf32>, tensor<4x1xf32>) -> tensor<1x?x1xf32>
  return %9 : tensor<1x?x1xf32>
}

// -----

func.func @stays(%x: tensor<1x2xf32>) -> tensor<1x1xf32> {
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  %0 = "onnx.Gelu"(%x) {onnx_node_name = "act"} : (tensor<1x2xf32>) -> tensor<1x2xf32>
  // expected-remark @+1 {{the input scales of layer 'fc' cannot move: its input is fixed, because it comes from 'act' (Gelu)}}
  %1 = "onnx.MatMul"(%0, %w) {onnx_node_name = "fc", lowbit.input_scales = dense<[2.0, 0.5]> : tensor<2xf32>} : (tensor<1x2xf32>, tensor<2x1xf32>) -> tensor<1x1xf32>
  return %1 : tensor<1x1xf32>
}

// -----

func.func @count(%x: tensor<1x2xf32>) -> tensor<1x1xf32> {
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  // expected-error @+1 {{of layer 'fc' has lowbit.input_scales of type 'tensor<3xf32>', expected f32 and one for each of its 2 input channels}}
  %1 = "onnx.MatMul"(%x, %w) {onnx_node_name = "fc", lowbit.input_scales = dense<1.0> : tensor<3xf32>} : (tensor<1x2xf32>, tensor<2x1xf32>) -> tensor<1x1xf32>
  return %1 : tensor<1x1xf32>
}
