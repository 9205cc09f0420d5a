// RUN: lowbit-opt %s --lowbit-infer-shapes --split-input-file --verify-diagnostics | FileCheck %s

// Where the graphs differ in a dim, it becomes dynamic.
// CHECK-LABEL: func @branches
// CHECK-SAME: -> tensor<?x4xf32>
func.func @branches(%c: tensor<i1>, %x: tensor<2x4xf32>, %y: tensor<3x4xf32>) -> tensor<*xf32> {
  %0 = "onnx.If"(%c) ({
    // CHECK: "onnx.Neg"({{.*}}) : (tensor<2x4xf32>) -> tensor<2x4xf32>
    %1 = "onnx.Neg"(%x) : (tensor<2x4xf32>) -> tensor<*xf32>
    "onnx.Yield"(%1) : (tensor<*xf32>) -> ()
  }, {
    "onnx.Yield"(%y) : (tensor<3x4xf32>) -> ()
  }) {onnx_node_name = "choose"} : (tensor<i1>) -> tensor<*xf32>
  return %0 : tensor<*xf32>
}

// -----

// A condition that is known: the other graph need not fit.
// CHECK-LABEL: func @decided
// CHECK-SAME: -> tensor<2xf32>
func.func @decided(%x: tensor<2xf32>) -> tensor<*xf32> {
  %c = "onnx.Constant"() {value = dense<true> : tensor<i1>} : () -> tensor<i1>
  %shape = "onnx.Constant"() {value = dense<7> : tensor<1xi64>} : () -> tensor<1xi64>
  %0 = "onnx.If"(%c) ({
    "onnx.Yield"(%x) : (tensor<2xf32>) -> ()
  }, {
    %1 = "onnx.Reshape"(%x, %shape) : (tensor<2xf32>, tensor<1xi64>) -> tensor<*xf32>
    "onnx.Yield"(%1) : (tensor<*xf32>) -> ()
  }) {onnx_node_name = "choose"} : (tensor<i1>) -> tensor<*xf32>
  return %0 : tensor<*xf32>
}

// -----

// What grows from one iteration to the next is dynamic in the body and after it; what does not keeps its size. The
// scan output is as long as the trip count.
// CHECK-LABEL: func @loop
// CHECK-SAME: -> (tensor<?xf32>, tensor<4xf32>, tensor<3x4xf32>)
func.func @loop(%x: tensor<2xf32>, %y: tensor<4xf32>) -> (tensor<*xf32>, tensor<*xf32>, tensor<*xf32>) {
  %m = "onnx.Constant"() {value = dense<3> : tensor<i64>} : () -> tensor<i64>
  %none = "onnx.NoValue"() {value} : () -> none
  %0:3 = "onnx.Loop"(%m, %none, %x, %y) ({
  // CHECK: ^bb0(%{{.*}}: tensor<i64>, %[[GO:.*]]: tensor<i1>, %{{.*}}: tensor<?xf32>, %{{.*}}: tensor<4xf32>)
  ^bb0(%i: tensor<i64>, %go: tensor<i1>, %a: tensor<*xf32>, %b: tensor<*xf32>):
    %1 = "onnx.Concat"(%a, %x) {axis = 0 : si64} : (tensor<*xf32>, tensor<2xf32>) -> tensor<*xf32>
    %2 = "onnx.Neg"(%b) : (tensor<*xf32>) -> tensor<*xf32>
    "onnx.Yield"(%go, %1, %2, %2) : (tensor<i1>, tensor<*xf32>, tensor<*xf32>, tensor<*xf32>) -> ()
  }) {onnx_node_name = "repeat"} : (tensor<i64>, none, tensor<2xf32>, tensor<4xf32>) -> (tensor<*xf32>, tensor<*xf32>, tensor<*xf32>)
  return %0#0, %0#1, %0#2 : tensor<*xf32>, tensor<*xf32>, tensor<*xf32>
}

// -----

// A condition of the run leaves the length open; so does the size of what is known only inside.
// CHECK-LABEL: func @early_exit
// CHECK-SAME: -> tensor<?x?xf32>
func.func @early_exit(%x: tensor<2xf32>, %limit: tensor<f32>) -> tensor<*xf32> {
  %none = "onnx.NoValue"() {value} : () -> none
  %0:2 = "onnx.Loop"(%none, %none, %x) ({
  ^bb0(%i: tensor<i64>, %go: tensor<i1>, %a: tensor<*xf32>):
    %1 = "onnx.Concat"(%a, %x) {axis = 0 : si64} : (tensor<*xf32>, tensor<2xf32>) -> tensor<*xf32>
    %2 = "onnx.ReduceSum"(%1, %none) {keepdims = 0 : si64} : (tensor<*xf32>, none) -> tensor<*xf32>
    %3 = "onnx.Less"(%2, %limit) : (tensor<*xf32>, tensor<f32>) -> tensor<*xi1>
    "onnx.Yield"(%3, %1, %1) : (tensor<*xi1>, tensor<*xf32>, tensor<*xf32>) -> ()
  }) {onnx_node_name = "repeat"} : (none, none, tensor<2xf32>) -> (tensor<*xf32>, tensor<*xf32>)
  return %0#1 : tensor<*xf32>
}

// -----

// CHECK-LABEL: func @scan
// CHECK-SAME: -> (tensor<4xf32>, tensor<4x?xf32>)
func.func @scan(%s: tensor<4xf32>, %x: tensor<?x4xf32>) -> (tensor<*xf32>, tensor<*xf32>) {
  %0:2 = "onnx.Scan"(%s, %x) ({
  ^bb0(%a: tensor<*xf32>, %b: tensor<*xf32>):
    %1 = "onnx.Add"(%a, %b) : (tensor<*xf32>, tensor<*xf32>) -> tensor<*xf32>
    "onnx.Yield"(%1, %1) : (tensor<*xf32>, tensor<*xf32>) -> ()
  }) {onnx_node_name = "sum", num_scan_inputs = 1 : si64, scan_output_axes = [1]} : (tensor<4xf32>, tensor<?x4xf32>) -> (tensor<*xf32>, tensor<*xf32>)
  return %0#0, %0#1 : tensor<*xf32>, tensor<*xf32>
}

// -----

func.func @ranks(%c: tensor<i1>, %x: tensor<2x4xf32>, %y: tensor<8xf32>) -> tensor<*xf32> {
  // expected-error@+1 {{If node 'choose': output 0 has the shape [2, 4] or [8], depending on a condition that only the run knows}}
  %0 = "onnx.If"(%c) ({
    "onnx.Yield"(%x) : (tensor<2x4xf32>) -> ()
  }, {
    "onnx.Yield"(%y) : (tensor<8xf32>) -> ()
  }) {onnx_node_name = "choose"} : (tensor<i1>) -> tensor<*xf32>
  return %0 : tensor<*xf32>
}

// -----

func.func @outputs(%c: tensor<i1>, %x: tensor<2xf32>) -> tensor<*xf32> {
  // expected-error@+1 {{has a body of 2 outputs, expected 1}}
  %0 = "onnx.If"(%c) ({
    "onnx.Yield"(%x, %x) : (tensor<2xf32>, tensor<2xf32>) -> ()
  }, {
    "onnx.Yield"(%x) : (tensor<2xf32>) -> ()
  }) {onnx_node_name = "choose"} : (tensor<i1>) -> tensor<*xf32>
  return %0 : tensor<*xf32>
}
