// RUN: lowbit-opt %s --pass-pipeline="builtin.module(lowbit-apply-recipe{recipe=int8-weights},lowbit-fuse-qdq)" | FileCheck %s

// Which linalg named ops are layers, and why the others are not.

// CHECK-LABEL: func.func @transposed_weights
// CHECK: arith.constant dense<{{.*}}> : tensor<3x2xi8>
// CHECK: lowbit.linear
func.func @transposed_weights(%x: tensor<4x2xf32>) -> tensor<4x3xf32> {
  %w = arith.constant dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xf32>
  %init = arith.constant dense<0.0> : tensor<4x3xf32>
  %0 = linalg.matmul indexing_maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]
       ins(%x, %w : tensor<4x2xf32>, tensor<3x2xf32>) outs(%init : tensor<4x3xf32>) -> tensor<4x3xf32>
  return %0 : tensor<4x3xf32>
}

// CHECK-LABEL: func.func @batch
// CHECK: lowbit.linear {{.*}} (tensor<5x4x2xf32>, tensor<3x2xi8>, tensor<3xf32>) -> tensor<5x4x3xf32>
// CHECK: linalg.batch_matmul {lowbit.decision = {name = "batch_matmul#1", op = "linalg.batch_matmul", quantizable = false, reason = "its right operand is not one matrix for all of the batch", weights = "float"}, lowbit.layer = "batch_matmul#1"}
func.func @batch(%x: tensor<5x4x2xf32>) -> (tensor<5x4x3xf32>, tensor<5x4x3xf32>) {
  %w = arith.constant dense<[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]> : tensor<2x3xf32>
  %v = arith.constant dense<1.0> : tensor<5x2x3xf32>
  %init = arith.constant dense<0.0> : tensor<5x4x3xf32>
  %0 = linalg.batch_matmul indexing_maps = [affine_map<(b, m, n, k) -> (b, m, k)>, affine_map<(b, m, n, k) -> (k, n)>, affine_map<(b, m, n, k) -> (b, m, n)>]
       ins(%x, %w : tensor<5x4x2xf32>, tensor<2x3xf32>) outs(%init : tensor<5x4x3xf32>) -> tensor<5x4x3xf32>
  %1 = linalg.batch_matmul ins(%x, %v : tensor<5x4x2xf32>, tensor<5x2x3xf32>) outs(%init : tensor<5x4x3xf32>) -> tensor<5x4x3xf32>
  return %0, %1 : tensor<5x4x3xf32>, tensor<5x4x3xf32>
}

// CHECK-LABEL: func.func @convolutions
// CHECK: lowbit.conv {{.*}} {dilations = array<i64: 1, 1>, layer = "a", {{.*}}pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 2, 2>} : (tensor<1x2x5x5xf32>, tensor<3x2x1x1xi8>
// CHECK: lowbit.conv {{.*}} {dilations = array<i64: 2, 2>, groups = 2 : i64, layer = "b", {{.*}}(tensor<1x2x5x5xf32>, tensor<2x1x2x2xi8>
// CHECK: linalg.conv_2d_nhwc_hwcf {{{.*}}reason = "channels-last convolutions are not supported yet; use the nchw form"
func.func @convolutions(%x: tensor<1x2x5x5xf32>, %y: tensor<1x5x5x2xf32>) -> (tensor<1x3x3x3xf32>, tensor<1x2x3x3xf32>, tensor<1x5x5x3xf32>) {
  %f = arith.constant dense<1.0> : tensor<3x2x1x1xf32>
  %d = arith.constant dense<1.0> : tensor<2x2x2xf32>
  %h = arith.constant dense<1.0> : tensor<1x1x2x3xf32>
  %i0 = arith.constant dense<0.0> : tensor<1x3x3x3xf32>
  %i1 = arith.constant dense<0.0> : tensor<1x2x3x3xf32>
  %i2 = arith.constant dense<0.0> : tensor<1x5x5x3xf32>
  %0 = linalg.conv_2d_nchw_fchw {lowbit.layer = "a", strides = dense<2> : tensor<2xi64>, dilations = dense<1> : tensor<2xi64>}
       ins(%x, %f : tensor<1x2x5x5xf32>, tensor<3x2x1x1xf32>) outs(%i0 : tensor<1x3x3x3xf32>) -> tensor<1x3x3x3xf32>
  %1 = linalg.depthwise_conv_2d_nchw_chw {lowbit.layer = "b", strides = dense<1> : tensor<2xi64>, dilations = dense<2> : tensor<2xi64>}
       ins(%x, %d : tensor<1x2x5x5xf32>, tensor<2x2x2xf32>) outs(%i1 : tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %2 = linalg.conv_2d_nhwc_hwcf {lowbit.layer = "c", strides = dense<1> : tensor<2xi64>, dilations = dense<1> : tensor<2xi64>}
       ins(%y, %h : tensor<1x5x5x2xf32>, tensor<1x1x2x3xf32>) outs(%i2 : tensor<1x5x5x3xf32>) -> tensor<1x5x5x3xf32>
  return %0, %1, %2 : tensor<1x3x3x3xf32>, tensor<1x2x3x3xf32>, tensor<1x5x5x3xf32>
}

// CHECK-LABEL: func.func @accumulates
// CHECK: linalg.matmul {{{.*}}reason = "it adds to an accumulator that does not start at zero"
func.func @accumulates(%x: tensor<4x2xf32>, %init: tensor<4x3xf32>) -> tensor<4x3xf32> {
  %w = arith.constant dense<1.0> : tensor<2x3xf32>
  %0 = linalg.matmul ins(%x, %w : tensor<4x2xf32>, tensor<2x3xf32>) outs(%init : tensor<4x3xf32>) -> tensor<4x3xf32>
  return %0 : tensor<4x3xf32>
}
