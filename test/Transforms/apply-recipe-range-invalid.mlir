// RUN: lowbit-opt %s --split-input-file --verify-diagnostics --lowbit-apply-recipe="recipe=int8:calibration=entropy"

func.func @no_histogram(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  lowbit.observe %x "fc:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32>} : tensor<1x2xf32>
  // expected-error @+2 {{of layer 'fc': calibration by entropy needs a histogram of the values seen}}
  // expected-note @+1 {{calibrate the model again, or choose calibration: {method: minmax}}}
  %0 = "onnx.MatMul"(%x, %w) {onnx_node_name = "fc"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  return %0 : tensor<1x2xf32>
}
