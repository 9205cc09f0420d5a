// RUN: lowbit-opt %s --split-input-file --verify-diagnostics

func.func @kind(%x: tensor<2x3xf32>) -> tensor<6xf32> {
  // expected-error @+1 {{attribute 'axis' failed to satisfy constraint: 64-bit signed integer attribute}}
  %0 = "onnx.Flatten"(%x) {axis = "one"} : (tensor<2x3xf32>) -> tensor<6xf32>
  return %0 : tensor<6xf32>
}

// -----

func.func @required(%x: tensor<2xf32>) -> tensor<2xi32> {
  // expected-error @+1 {{requires attribute 'to'}}
  %0 = "onnx.Cast"(%x) : (tensor<2xf32>) -> tensor<2xi32>
  return %0 : tensor<2xi32>
}

// -----

func.func @operands(%x: tensor<2xf32>) -> tensor<2xf32> {
  // expected-error @+1 {{expected 2 operands, but found 1}}
  %0 = "onnx.Add"(%x) : (tensor<2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}
