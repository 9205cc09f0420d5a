// RUN: lowbit-opt %s --lowbit-apply-recipe="recipe=int4-gptq:per=channel,head=same" | FileCheck %s
// RUN: lowbit-opt %s --lowbit-apply-recipe="recipe=int4:per=channel,head=same,algorithm=rtn" | FileCheck %s --check-prefix=RTN

// The last three inputs are always equal, so only the sum of their weights, 1.2 steps, matters: rounding to the nearest makes it
// 0, GPTQ makes it 1.
// CHECK: value = dense<{{\[\[}}15], [0], [1], [0]]> : tensor<4x1xui4>
// RTN: value = dense<{{\[\[}}15], [0], [0], [0]]> : tensor<4x1xui4>
func.func @main_graph(%x: tensor<1x4xf32>) -> tensor<1x1xf32> {
  %w = "onnx.Constant"() {value = dense<[[15.0], [0.4], [0.4], [0.4]]> : tensor<4x1xf32>} : () -> tensor<4x1xf32>
  lowbit.observe %x "fc:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32,
    moments = dense<[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]]> : tensor<4x4xf32>>} : tensor<1x4xf32>
  %0 = "onnx.MatMul"(%x, %w) {onnx_node_name = "fc"} : (tensor<1x4xf32>, tensor<4x1xf32>) -> tensor<1x1xf32>
  return %0 : tensor<1x1xf32>
}
