// RUN: lowbit-opt %s --split-input-file --verify-diagnostics --lowbit-verify-form="form=float"
// RUN: not lowbit-opt %s --split-input-file --lowbit-verify-form="form=flat" 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not lowbit-opt %s --split-input-file --lowbit-verify-form="form=quantized" 2>&1 | FileCheck %s
// RUN: not lowbit-opt %s --split-input-file --lowbit-verify-form="form=scheduled" 2>&1 | FileCheck %s --check-prefix=SCHEDULED

// UNKNOWN: error: unknown form 'flat', expected float, observed, qdq, quantized, scheduled or llvm
// CHECK: error: 'lowbit.observe' op does not belong in the quantized form
// CHECK: error: 'lowbit.dequantize' op does not belong in the quantized form
// CHECK: note: lowbit-fuse-qdq left this layer's weights outside of a quantized op
// SCHEDULED: error: 'onnx.Relu' op does not belong in the scheduled form
// SCHEDULED: note: what has no kernel is in linalg by now

func.func @good(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "onnx.Relu"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @observed(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @+2 {{'lowbit.observe' op does not belong in the float form}}
  // expected-note @+1 {{observers make it the observed form}}
  lowbit.observe %x "a:input" : tensor<4xf32>
  return %x : tensor<4xf32>
}

// -----

func.func @qdq(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<0> : tensor<i8>} : () -> tensor<i8>
  %w = "onnx.Constant"() {value = dense<1> : tensor<2x2xi8>} : () -> tensor<2x2xi8>
  // expected-error @+2 {{'lowbit.dequantize' op does not belong in the float form}}
  // expected-note @+1 {{nothing is quantized yet}}
  %0 = lowbit.dequantize %w scale(%s) zero(%z) : (tensor<2x2xi8>, tensor<f32>, tensor<i8>) -> tensor<2x2xf32>
  %1 = "onnx.MatMul"(%x, %0) : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  return %1 : tensor<1x2xf32>
}
