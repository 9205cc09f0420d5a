// RUN: lowbit-opt %s --lowbit-convert-onnx-to-linalg --canonicalize --cse --split-input-file | FileCheck %s

// CHECK-LABEL: func @relu
func.func @relu(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  // CHECK: linalg.generic {{.*}} ins(%{{.*}} : tensor<?x4xf32>)
  // CHECK: arith.cmpf olt
  // CHECK: arith.select
  %0 = "onnx.Relu"(%x) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}

// -----

// The innermost loop walks a row of the result (d6); sums run over channel and kernel (d3, d4, d5).
// CHECK-DAG: #[[IN:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d3, d2 * 2 + d4, d6 * 2 + d5)>
// CHECK-DAG: #[[W:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d1, d3, d4, d5)>
// CHECK-DAG: #[[OUT:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1, d2, d6)>
// CHECK-LABEL: func @conv
func.func @conv(%x: tensor<?x3x8x8xf32>, %w: tensor<4x3x3x3xf32>, %b: tensor<4xf32>) -> tensor<?x4x4x4xf32> {
  // The bias is where the sums start.
  // CHECK: %[[INIT:.*]] = linalg.generic {{.*}} ins(%arg2 : tensor<4xf32>)
  // CHECK: tensor.insert_slice %arg0 {{.*}} : tensor<?x3x8x8xf32> into tensor<?x3x9x9xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[IN]], #[[W]], #[[OUT]]]
  // CHECK-SAME: ["parallel", "parallel", "parallel", "reduction", "reduction", "reduction", "parallel"]
  // CHECK-SAME: outs(%[[INIT]]
  %0 = "onnx.Conv"(%x, %w, %b) {strides = [2, 2], pads = [1, 1, 0, 0]} : (tensor<?x3x8x8xf32>, tensor<4x3x3x3xf32>, tensor<4xf32>) -> tensor<?x4x4x4xf32>
  return %0 : tensor<?x4x4x4xf32>
}

// -----

// Dims of one name are one size: no broadcasting at the run.
// CHECK-LABEL: func @same
// CHECK-NOT: lowbit_rt.assert
func.func @same(%x: tensor<?xf32> {onnx.dim_params = "0:N"}, %y: tensor<?xf32> {onnx.dim_params = "0:N"}) -> tensor<?xf32> {
  %0 = "onnx.Add"(%x, %y) : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// Of other dims either may be 1.
// CHECK-LABEL: func @other
// CHECK: lowbit_rt.assert %{{.*}}, "'add': operands do not broadcast"
func.func @other(%x: tensor<?xf32>, %y: tensor<?xf32>) -> tensor<?xf32> {
  %0 = "onnx.Add"(%x, %y) {onnx_node_name = "add"} : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// Indices are checked, and clamped all the same.
// CHECK-LABEL: func @gather
// CHECK: lowbit_rt.assert %{{.*}}, "'embed': an index is out of range"
// CHECK: arith.minsi
// CHECK: tensor.extract
func.func @gather(%table: tensor<16x8xf32>, %ids: tensor<?xi64>) -> tensor<?x8xf32> {
  %0 = "onnx.Gather"(%table, %ids) {axis = 0 : si64, onnx_node_name = "embed"} : (tensor<16x8xf32>, tensor<?xi64>) -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// -----

// Unsigned integers become signless; what they mean goes into the ops. Ops of other dialects stay, their types change too.
// CHECK-LABEL: func @signs
// CHECK-SAME: (%{{.*}}: tensor<4xi8>) -> tensor<4xi8>
// CHECK: arith.maxui
// CHECK: lowbit_rt.launch @k ins(%{{.*}} : tensor<4xi8>) outs(%{{.*}} : tensor<4xi8>)
lowbit_rt.kernel @k generator("cpu.qgemm") schedule({})
func.func @signs(%x: tensor<4xui8>) -> tensor<4xui8> {
  %c = "onnx.Constant"() {value = dense<[1, 2, 3, 255]> : tensor<4xui8>} : () -> tensor<4xui8>
  %0 = "onnx.Max"(%x, %c) : (tensor<4xui8>, tensor<4xui8>) -> tensor<4xui8>
  %init = tensor.empty() : tensor<4xui8>
  %1 = lowbit_rt.launch @k ins(%0 : tensor<4xui8>) outs(%init : tensor<4xui8>) -> tensor<4xui8>
  return %1 : tensor<4xui8>
}

// -----

// A pivot op means the signs of its types: it keeps them.
// CHECK-LABEL: func @pivot
// CHECK: %[[Q:.*]] = lowbit.quantize %{{.*}} -> tensor<4xui8>
// CHECK: builtin.unrealized_conversion_cast %[[Q]] : tensor<4xui8> to tensor<4xi8>
func.func @pivot(%x: tensor<4xf32>, %s: tensor<f32>, %z: tensor<ui8>) -> tensor<4xui8> {
  %0 = "onnx.Relu"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %q = lowbit.quantize %0 scale(%s) zero(%z) : (tensor<4xf32>, tensor<f32>, tensor<ui8>) -> tensor<4xui8>
  return %q : tensor<4xui8>
}

// -----

// Two unknown dims become one and come back: views, with one check of what only the run can tell.
// CHECK-LABEL: func @reshape_at_run
func.func @reshape_at_run(%x: tensor<?x?x6xf32>, %shape: tensor<3xi64>) -> tensor<?x?x?xf32> {
  // CHECK: lowbit_rt.assert %{{.*}}, "{{.*}}the input cannot be reshaped to the shape asked for"
  // CHECK: tensor.reshape
  // CHECK-NOT: linalg.generic
  %0 = "onnx.Reshape"(%x, %shape) <{allowzero = 0 : si64}> : (tensor<?x?x6xf32>, tensor<3xi64>) -> tensor<?x?x?xf32>
  return %0 : tensor<?x?x?xf32>
}
