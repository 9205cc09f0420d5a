// RUN: lowbit-translate --export-onnx %s --split-input-file --verify-diagnostics

// expected-error @+1 {{expected a function @main_graph of one block}}
module {}

// -----

func.func @main_graph(%x: tensor<2xf32>) -> tensor<2xf32> {
  // expected-error @+1 {{does not belong in the qdq form, which is what is exported}}
  %0 = math.exp %x : tensor<2xf32>
  return %0 : tensor<2xf32>
}
