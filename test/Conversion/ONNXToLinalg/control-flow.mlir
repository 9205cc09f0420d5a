// RUN: lowbit-opt %s --lowbit-infer-shapes --lowbit-convert-onnx-to-linalg --split-input-file | FileCheck %s

// Graphs of different shapes meet in a dynamic one.
// CHECK-LABEL: func @branches
// CHECK: %[[C:.*]] = tensor.extract %arg0[]
// CHECK: scf.if %[[C]] -> (tensor<?xf32>)
// CHECK: linalg.generic
// CHECK: tensor.cast %{{.*}} : tensor<2xf32> to tensor<?xf32>
// CHECK: } else {
// CHECK: tensor.cast %arg2 : tensor<3xf32> to tensor<?xf32>
func.func @branches(%c: tensor<i1>, %x: tensor<2xf32>, %y: tensor<3xf32>) -> tensor<*xf32> {
  %0 = "onnx.If"(%c) ({
    %1 = "onnx.Neg"(%x) : (tensor<2xf32>) -> tensor<*xf32>
    "onnx.Yield"(%1) : (tensor<*xf32>) -> ()
  }, {
    "onnx.Yield"(%y) : (tensor<3xf32>) -> ()
  }) {onnx_node_name = "choose"} : (tensor<i1>) -> tensor<*xf32>
  return %0 : tensor<*xf32>
}

// -----

// Nothing but the trip count ends it: one loop, and the scan output has room for every element.
// CHECK-LABEL: func @counted
// CHECK-NOT: scf.while
// CHECK: scf.for {{.*}} -> (tensor<4xf32>, tensor<?x4xf32>)
// CHECK-NOT: scf.if
// CHECK: tensor.insert_slice
// CHECK: scf.yield
func.func @counted(%m: tensor<i64>, %x: tensor<4xf32>) -> (tensor<*xf32>, tensor<*xf32>) {
  %none = "onnx.NoValue"() {value} : () -> none
  %0:2 = "onnx.Loop"(%m, %none, %x) ({
  ^bb0(%i: tensor<i64>, %go: tensor<i1>, %a: tensor<*xf32>):
    %1 = "onnx.Neg"(%a) : (tensor<*xf32>) -> tensor<*xf32>
    "onnx.Yield"(%go, %1, %1) : (tensor<i1>, tensor<*xf32>, tensor<*xf32>) -> ()
  }) {onnx_node_name = "repeat"} : (tensor<i64>, none, tensor<4xf32>) -> (tensor<*xf32>, tensor<*xf32>)
  return %0#0, %0#1 : tensor<*xf32>, tensor<*xf32>
}

// -----

// A condition may end it: it is looked at in every step, and the scan output grows.
// CHECK-LABEL: func @early_exit
// CHECK: scf.while
// CHECK: scf.condition
// CHECK: scf.for
// CHECK: scf.if
// CHECK: %[[FULL:.*]] = arith.cmpi sge
// CHECK: scf.if %[[FULL]]
func.func @early_exit(%m: tensor<i64>, %limit: tensor<f32>, %x: tensor<f32>) -> (tensor<*xf32>, tensor<*xf32>) {
  %none = "onnx.NoValue"() {value} : () -> none
  %0:2 = "onnx.Loop"(%m, %none, %x) ({
  ^bb0(%i: tensor<i64>, %go: tensor<i1>, %a: tensor<*xf32>):
    %1 = "onnx.Exp"(%a) : (tensor<*xf32>) -> tensor<*xf32>
    %2 = "onnx.Less"(%1, %limit) : (tensor<*xf32>, tensor<f32>) -> tensor<*xi1>
    "onnx.Yield"(%2, %1, %1) : (tensor<*xi1>, tensor<*xf32>, tensor<*xf32>) -> ()
  }) {onnx_node_name = "repeat"} : (tensor<i64>, none, tensor<f32>) -> (tensor<*xf32>, tensor<*xf32>)
  return %0#0, %0#1 : tensor<*xf32>, tensor<*xf32>
}
