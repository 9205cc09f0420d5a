// RUN: lowbit-opt %s --lowbit-infer-shapes --lowbit-fold-constants | FileCheck %s

// An If whose condition follows from the shapes is the graph that it takes, and so are those inside it.
// CHECK-LABEL: func @decided
// CHECK-NOT: onnx.If
// CHECK: %[[NEG:.*]] = "onnx.Neg"(%arg0)
// CHECK-NEXT: %[[EXP:.*]] = "onnx.Exp"(%[[NEG]])
// CHECK-NEXT: return %[[EXP]]
func.func @decided(%x: tensor<2xf32>) -> tensor<*xf32> {
  %size = "onnx.Size"(%x) : (tensor<2xf32>) -> tensor<*xi64>
  %two = "onnx.Constant"() {value = dense<2> : tensor<i64>} : () -> tensor<i64>
  %c = "onnx.Equal"(%size, %two) : (tensor<*xi64>, tensor<i64>) -> tensor<*xi1>
  %0 = "onnx.If"(%c) ({
    %1 = "onnx.Neg"(%x) : (tensor<2xf32>) -> tensor<*xf32>
    %d = "onnx.Not"(%c) : (tensor<*xi1>) -> tensor<*xi1>
    %2 = "onnx.If"(%d) ({
      "onnx.Yield"(%x) : (tensor<2xf32>) -> ()
    }, {
      %3 = "onnx.Exp"(%1) : (tensor<*xf32>) -> tensor<*xf32>
      "onnx.Yield"(%3) : (tensor<*xf32>) -> ()
    }) {onnx_node_name = "inner"} : (tensor<*xi1>) -> tensor<*xf32>
    "onnx.Yield"(%2) : (tensor<*xf32>) -> ()
  }, {
    "onnx.Yield"(%x) : (tensor<2xf32>) -> ()
  }) {onnx_node_name = "outer"} : (tensor<*xi1>) -> tensor<*xf32>
  return %0 : tensor<*xf32>
}

// Inside a body too.
// CHECK-LABEL: func @body
// CHECK: "onnx.Loop"
// CHECK: %[[SHAPE:.*]] = "onnx.Constant"() <{value = dense<5> : tensor<1xi64>}>
// CHECK: "onnx.Add"(%{{.*}}, %[[SHAPE]])
func.func @body(%x: tensor<5xi64>, %m: tensor<i64>) -> tensor<*xi64> {
  %none = "onnx.NoValue"() {value} : () -> none
  %0 = "onnx.Loop"(%m, %none, %x) ({
  ^bb0(%i: tensor<i64>, %go: tensor<i1>, %a: tensor<*xi64>):
    %s = "onnx.Shape"(%a) : (tensor<*xi64>) -> tensor<*xi64>
    %1 = "onnx.Add"(%a, %s) : (tensor<*xi64>, tensor<*xi64>) -> tensor<*xi64>
    "onnx.Yield"(%go, %1) : (tensor<i1>, tensor<*xi64>) -> ()
  }) {onnx_node_name = "repeat"} : (tensor<i64>, none, tensor<5xi64>) -> tensor<*xi64>
  return %0 : tensor<*xi64>
}
