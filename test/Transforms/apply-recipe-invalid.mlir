// RUN: lowbit-opt %s --split-input-file --verify-diagnostics --lowbit-apply-recipe="recipe=int8:calibration=minmax"

func.func @no_statistics(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  // expected-error @+2 {{of layer 'fc' has no statistics of its activations, which recipe 'int8:calibration=minmax' quantizes; neither have 1 other layers}}
  // expected-note @+1 {{calibrate the model with this recipe}}
  %0 = "onnx.MatMul"(%x, %w) {onnx_node_name = "fc"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  %1 = "onnx.MatMul"(%0, %w) {onnx_node_name = "fc2"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  return %1 : tensor<1x2xf32>
}

// -----

func.func @nan(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %w = "onnx.Constant"() {value = dense<[[1.0, 0x7FC00000], [1.0, 1.0]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  lowbit.observe %x "fc:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32>} : tensor<1x2xf32>
  // expected-error @+2 {{of layer 'fc' has weights that cannot be quantized: weight [1, 0] is NaN}}
  // expected-note @+1 {{mend the model, or give the layer a rule with keep: float}}
  %0 = "onnx.MatMul"(%x, %w) {onnx_node_name = "fc"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  return %0 : tensor<1x2xf32>
}

// -----

// 1e9 in steps of 1/127/255 would not fit 32 bits: the layer adds it in float rather than wrap.
func.func @large_bias(%x: tensor<1x2xf32>) -> tensor<1x1xf32> {
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  %b = "onnx.Constant"() {value = dense<1.0e9> : tensor<1xf32>} : () -> tensor<1xf32>
  lowbit.observe %x "fc:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32>} : tensor<1x2xf32>
  // expected-remark @+1 {{layer 'fc' adds its bias in float: bias 0 does not fit 32-bit integers of the accumulator's scale}}
  %0 = "onnx.Gemm"(%x, %w, %b) {onnx_node_name = "fc"} : (tensor<1x2xf32>, tensor<2x1xf32>, tensor<1xf32>) -> tensor<1x1xf32>
  return %0 : tensor<1x1xf32>
}
