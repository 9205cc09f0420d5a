// RUN: split-file %s %t
// RUN: lowbit-opt --lowbit-insert-exchanges=recipe=%t/empirical.yaml %t/model.mlir | FileCheck %t/model.mlir
// RUN: lowbit-opt --lowbit-insert-exchanges=recipe=%t/empirical.yaml --lowbit-to-linalg %t/model.mlir | FileCheck %t/model.mlir --check-prefix=RT
// RUN: lowbit-opt --lowbit-insert-exchanges=recipe=int4 %t/model.mlir | FileCheck %t/model.mlir --check-prefix=PLAIN

//--- empirical.yaml
lowbit: 1
base: int4
transforms: [{bias-correction: {method: empirical}}]

//--- model.mlir
// Outputs matter only to the correction of biases.
// PLAIN-LABEL: @shared
// PLAIN: "weight"
// PLAIN-NOT: "output"

// Two layers on one value share the point of their input; the sum reads the value itself.
// CHECK-LABEL: @shared
// CHECK-SAME: %[[X:.*]]: tensor<?x4xf32>
// CHECK: %[[X1:.*]] = lowbit.exchange "q" "input"(%[[X]])
// CHECK: %[[WQ:.*]] = lowbit.exchange "q" "weight"() : () -> tensor<4x4xf32>
// CHECK: %[[Q:.*]] = "onnx.MatMul"(%[[X1]], %[[WQ]])
// CHECK: %[[Q1:.*]] = lowbit.exchange "q" "output"(%[[Q]])
// CHECK-NOT: "input"
// CHECK: %[[WK:.*]] = lowbit.exchange "k" "weight"()
// CHECK: "onnx.MatMul"(%[[X1]], %[[WK]])
// CHECK: "onnx.Add"(%[[Q1]], %[[X]])
// RT: lowbit_rt.exchange(%{{.*}}) id(0)
// RT: lowbit_rt.exchange() id(1)
func.func @shared(%x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %wq = "onnx.Constant"() {value = dense<1.0> : tensor<4x4xf32>} : () -> tensor<4x4xf32>
  %wk = "onnx.Constant"() {value = dense<2.0> : tensor<4x4xf32>} : () -> tensor<4x4xf32>
  %q = "onnx.MatMul"(%x, %wq) {onnx_node_name = "q"} : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
  %k = "onnx.MatMul"(%x, %wk) {onnx_node_name = "k"} : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
  %s = "onnx.Add"(%q, %x) {onnx_node_name = "sum"} : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  return %s, %k : tensor<?x4xf32>, tensor<?x4xf32>
}

// Convolutions of different windows multiply different rows; a table has weights only.
// CHECK-LABEL: @windows
// CHECK-DAG: lowbit.exchange "c1" "input"
// CHECK-DAG: lowbit.exchange "c3" "input"
// CHECK-DAG: lowbit.exchange "table" "weight"() : () -> tensor<8x4xf32>
// CHECK-NOT: "table" "input"
func.func @windows(%x: tensor<1x2x5x5xf32>, %i: tensor<3xi64>) -> (tensor<1x2x5x5xf32>, tensor<1x2x5x5xf32>, tensor<3x4xf32>) {
  %none = "onnx.NoValue"() : () -> none
  %w1 = "onnx.Constant"() {value = dense<1.0> : tensor<2x2x1x1xf32>} : () -> tensor<2x2x1x1xf32>
  %w3 = "onnx.Constant"() {value = dense<1.0> : tensor<2x2x3x3xf32>} : () -> tensor<2x2x3x3xf32>
  %t = "onnx.Constant"() {value = dense<1.0> : tensor<8x4xf32>} : () -> tensor<8x4xf32>
  %a = "onnx.Conv"(%x, %w1, %none) {onnx_node_name = "c1"} : (tensor<1x2x5x5xf32>, tensor<2x2x1x1xf32>, none) -> tensor<1x2x5x5xf32>
  %b = "onnx.Conv"(%x, %w3, %none) {onnx_node_name = "c3", pads = [1, 1, 1, 1]} : (tensor<1x2x5x5xf32>, tensor<2x2x3x3xf32>, none) -> tensor<1x2x5x5xf32>
  %c = "onnx.Gather"(%t, %i) {onnx_node_name = "table"} : (tensor<8x4xf32>, tensor<3xi64>) -> tensor<3x4xf32>
  return %a, %b, %c : tensor<1x2x5x5xf32>, tensor<1x2x5x5xf32>, tensor<3x4xf32>
}
