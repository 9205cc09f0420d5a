// RUN: lowbit-opt %s --lowbit-apply-recipe="recipe=int4:group=4,head=same" | FileCheck %s

// A layer inside a graph of a node stays in float, and its decision says why; the one outside does not.
// CHECK-LABEL: func @main_graph
// CHECK: lowbit.dequantize
// CHECK: "onnx.MatMul"(%arg0, %{{.*}}) {{.*}}weights = "u4"
// CHECK: "onnx.MatMul"(%arg0, %{{.*}}) {{.*}}name = "inside"{{.*}}reason = "it is in the body of 'choose'"{{.*}}weights = "float"
func.func @main_graph(%x: tensor<2x4xf32>, %c: tensor<i1>) -> (tensor<2x4xf32>, tensor<2x4xf32>) {
  %w = "onnx.Constant"() {onnx_name = "w", value = dense<0.5> : tensor<4x4xf32>} : () -> tensor<4x4xf32>
  %v = "onnx.Constant"() {onnx_name = "v", value = dense<0.25> : tensor<4x4xf32>} : () -> tensor<4x4xf32>
  %0 = "onnx.MatMul"(%x, %w) {onnx_node_name = "outside"} : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
  %1 = "onnx.If"(%c) ({
    %2 = "onnx.MatMul"(%x, %v) {onnx_node_name = "inside"} : (tensor<2x4xf32>, tensor<4x4xf32>) -> tensor<2x4xf32>
    "onnx.Yield"(%2) : (tensor<2x4xf32>) -> ()
  }, {
    "onnx.Yield"(%x) : (tensor<2x4xf32>) -> ()
  }) {onnx_node_name = "choose"} : (tensor<i1>) -> tensor<2x4xf32>
  return %0, %1 : tensor<2x4xf32>, tensor<2x4xf32>
}
