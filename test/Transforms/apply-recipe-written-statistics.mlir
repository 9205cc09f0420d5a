// RUN: lowbit-opt %s --lowbit-apply-recipe="recipe=int8" 2>&1 | FileCheck %s

// Statistics that a person has written, a range only, go with int8's method (mse): the scale covers the range.
// CHECK: remark: layer 'fc' takes the range from the smallest to the largest value seen: mse needs a histogram
// CHECK: "onnx.Constant"() <{value = dense<1.000000e+00> : tensor<f32>}>
func.func @main_graph(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %w = "onnx.Constant"() {value = dense<2.0> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  lowbit.observe %x "fc:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 255.0 : f32>} : tensor<1x2xf32>
  %0 = "onnx.MatMul"(%x, %w) {onnx_node_name = "fc"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  return %0 : tensor<1x2xf32>
}
