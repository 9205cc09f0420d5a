// RUN: lowbit-opt %s --lowbit-fold-constants --split-input-file | FileCheck %s

// CHECK-LABEL: func @movement
// CHECK-NEXT: %[[C:.*]] = "onnx.Constant"() <{value = dense<{{\[\[}}1.000000e+00, 4.000000e+00], [2.000000e+00, 5.000000e+00], [3.000000e+00, 6.000000e+00]]> : tensor<3x2xf32>}>
// CHECK-NEXT: return %[[C]]
func.func @movement() -> tensor<3x2xf32> {
  %w = "onnx.Constant"() {value = dense<[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]> : tensor<2x3xf32>} : () -> tensor<2x3xf32>
  %0 = "onnx.Transpose"(%w) {perm = [1, 0]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// -----

// CHECK-LABEL: func @strides
// CHECK-NEXT: "onnx.Constant"() <{value = dense<[5, 3, 1]> : tensor<3xi32>}>
func.func @strides() -> tensor<3xi32> {
  %x = "onnx.Constant"() {value = dense<[0, 1, 2, 3, 4, 5]> : tensor<6xi32>} : () -> tensor<6xi32>
  %start = "onnx.Constant"() {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
  %end = "onnx.Constant"() {value = dense<-9223372036854775807> : tensor<1xi64>} : () -> tensor<1xi64>
  %axis = "onnx.Constant"() {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
  %step = "onnx.Constant"() {value = dense<-2> : tensor<1xi64>} : () -> tensor<1xi64>
  %0 = "onnx.Slice"(%x, %start, %end, %axis, %step) : (tensor<6xi32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<3xi32>
  return %0 : tensor<3xi32>
}

// -----

// CHECK-LABEL: func @arithmetic
// CHECK-NEXT: "onnx.Constant"() <{value = dense<[2.500000e+00, 4.500000e+00]> : tensor<2xf32>}>
// CHECK-NEXT: return
func.func @arithmetic() -> tensor<2xf32> {
  %x = "onnx.Constant"() {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %two = "onnx.Constant"() {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
  %half = "onnx.Constant"() {value = dense<0.5> : tensor<1xf32>} : () -> tensor<1xf32>
  %0 = "onnx.Mul"(%x, %two) : (tensor<2xf32>, tensor<f32>) -> tensor<2xf32>
  %1 = "onnx.Add"(%0, %half) : (tensor<2xf32>, tensor<1xf32>) -> tensor<2xf32>
  return %1 : tensor<2xf32>
}

// -----

// Dims that are known make constants even where others are not.
// CHECK-LABEL: func @shapes
// CHECK-NEXT: "onnx.Constant"() <{value = dense<48> : tensor<i64>}>
// CHECK-NEXT: return
func.func @shapes(%x: tensor<?x4x12xf32>) -> tensor<i64> {
  %0 = "onnx.Shape"(%x) {start = 1 : si64} : (tensor<?x4x12xf32>) -> tensor<2xi64>
  %first = "onnx.Constant"() {value = dense<0> : tensor<i64>} : () -> tensor<i64>
  %second = "onnx.Constant"() {value = dense<1> : tensor<i64>} : () -> tensor<i64>
  %1 = "onnx.Gather"(%0, %first) {axis = 0 : si64} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  %2 = "onnx.Gather"(%0, %second) {axis = 0 : si64} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  %3 = "onnx.Mul"(%1, %2) : (tensor<i64>, tensor<i64>) -> tensor<i64>
  return %3 : tensor<i64>
}

// -----

// CHECK-LABEL: func @nothing(
// CHECK-SAME: %[[X:.*]]: tensor<?x4xf32>
// CHECK-NEXT: return %[[X]]
func.func @nothing(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %shape = "onnx.Shape"(%x) : (tensor<?x4xf32>) -> tensor<2xi64>
  %0 = "onnx.Identity"(%x) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  %1 = "onnx.Expand"(%0, %shape) : (tensor<?x4xf32>, tensor<2xi64>) -> tensor<?x4xf32>
  %to = "onnx.Constant"() {value = dense<[-1, 4]> : tensor<2xi64>} : () -> tensor<2xi64>
  %2 = "onnx.Reshape"(%1, %to) : (tensor<?x4xf32>, tensor<2xi64>) -> tensor<?x4xf32>
  return %2 : tensor<?x4xf32>
}

// -----

// A constant that would grow a lot stays computed.
// CHECK-LABEL: func @growth
// CHECK: "onnx.Expand"
func.func @growth() -> tensor<1024x1024xf32> {
  %x = "onnx.Constant"() {value = dense<1.0> : tensor<1xf32>} : () -> tensor<1xf32>
  %to = "onnx.Constant"() {value = dense<[1024, 1024]> : tensor<2xi64>} : () -> tensor<2xi64>
  %0 = "onnx.Expand"(%x, %to) : (tensor<1xf32>, tensor<2xi64>) -> tensor<1024x1024xf32>
  return %0 : tensor<1024x1024xf32>
}
