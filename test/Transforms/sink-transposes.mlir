// RUN: lowbit-opt %s --lowbit-sink-transposes --canonicalize --split-input-file | FileCheck %s

// What a convolution with channels last gives, through a bias, a ReLU and padding, to the next one: no transpose is left.

// CHECK-LABEL: func.func @between_convolutions
// CHECK-SAME: (%[[X:.*]]: tensor<1x8x8x4xf32>, %[[B:.*]]: tensor<4xf32>)
// CHECK-NOT: transpose
// CHECK: %[[SUM:.*]] = linalg.generic {{.*}}ins(%[[X]], %[[B]] : tensor<1x8x8x4xf32>, tensor<4xf32>)
// CHECK: tensor.insert_slice %[[SUM]] into %{{.*}}[0, 1, 1, 0] [1, 8, 8, 4] [1, 1, 1, 1] : tensor<1x8x8x4xf32> into tensor<1x10x10x4xf32>
// CHECK-NOT: transpose
func.func @between_convolutions(%x: tensor<1x8x8x4xf32>, %b: tensor<4xf32>) -> tensor<1x10x10x4xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<1x4x8x8xf32>
  %first = linalg.transpose ins(%x : tensor<1x8x8x4xf32>) outs(%e : tensor<1x4x8x8xf32>) permutation = [0, 3, 1, 2]
  %sum = linalg.generic {indexing_maps = [affine_map<(n, c, y, x) -> (n, c, y, x)>, affine_map<(n, c, y, x) -> (c)>, affine_map<(n, c, y, x) -> (n, c, y, x)>],
    iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%first, %b : tensor<1x4x8x8xf32>, tensor<4xf32>) outs(%e : tensor<1x4x8x8xf32>) {
  ^bb0(%a: f32, %c: f32, %out: f32):
    %s = arith.addf %a, %c : f32
    %r = arith.maximumf %s, %zero : f32
    linalg.yield %r : f32
  } -> tensor<1x4x8x8xf32>
  %room = tensor.empty() : tensor<1x4x10x10xf32>
  %zeros = linalg.fill ins(%zero : f32) outs(%room : tensor<1x4x10x10xf32>) -> tensor<1x4x10x10xf32>
  %padded = tensor.insert_slice %sum into %zeros[0, 0, 1, 1] [1, 4, 8, 8] [1, 1, 1, 1] : tensor<1x4x8x8xf32> into tensor<1x4x10x10xf32>
  %f = tensor.empty() : tensor<1x10x10x4xf32>
  %last = linalg.transpose ins(%padded : tensor<1x4x10x10xf32>) outs(%f : tensor<1x10x10x4xf32>) permutation = [0, 2, 3, 1]
  return %last : tensor<1x10x10x4xf32>
}

// -----

// A residual: the other operand has been transposed for another reader, so both are there in the same order.

// CHECK-LABEL: func.func @residual
// CHECK-SAME: (%[[X:.*]]: tensor<2x5x3xf32>, %[[Y:.*]]: tensor<2x3x5xf32>)
// CHECK: %[[OTHER:.*]] = linalg.transpose ins(%[[Y]]
// CHECK: %[[SUM:.*]] = linalg.generic {{.*}}ins(%[[X]], %[[OTHER]] :
// CHECK: linalg.transpose ins(%[[SUM]]
func.func @residual(%x: tensor<2x5x3xf32>, %y: tensor<2x3x5xf32>) -> (tensor<2x3x5xf32>, tensor<2x5x3xf32>) {
  %e = tensor.empty() : tensor<2x3x5xf32>
  %f = tensor.empty() : tensor<2x5x3xf32>
  %other = linalg.transpose ins(%y : tensor<2x3x5xf32>) outs(%f : tensor<2x5x3xf32>) permutation = [0, 2, 1]
  %first = linalg.transpose ins(%x : tensor<2x5x3xf32>) outs(%e : tensor<2x3x5xf32>) permutation = [0, 2, 1]
  %sum = linalg.generic {indexing_maps = [affine_map<(a, b, c) -> (a, b, c)>, affine_map<(a, b, c) -> (a, b, c)>, affine_map<(a, b, c) -> (a, b, c)>],
    iterator_types = ["parallel", "parallel", "parallel"]} ins(%first, %y : tensor<2x3x5xf32>, tensor<2x3x5xf32>) outs(%e : tensor<2x3x5xf32>) {
  ^bb0(%p: f32, %q: f32, %out: f32):
    %s = arith.addf %p, %q : f32
    linalg.yield %s : f32
  } -> tensor<2x3x5xf32>
  return %sum, %other : tensor<2x3x5xf32>, tensor<2x5x3xf32>
}

// -----

// Nothing has transposed the other operand: a transpose more would be no gain.

// CHECK-LABEL: func.func @left
// CHECK: %[[T:.*]] = linalg.transpose
// CHECK: linalg.generic {{.*}}ins(%[[T]], %arg1
func.func @left(%x: tensor<2x5x3xf32>, %y: tensor<2x3x5xf32>) -> tensor<2x3x5xf32> {
  %e = tensor.empty() : tensor<2x3x5xf32>
  %first = linalg.transpose ins(%x : tensor<2x5x3xf32>) outs(%e : tensor<2x3x5xf32>) permutation = [0, 2, 1]
  %sum = linalg.generic {indexing_maps = [affine_map<(a, b, c) -> (a, b, c)>, affine_map<(a, b, c) -> (a, b, c)>, affine_map<(a, b, c) -> (a, b, c)>],
    iterator_types = ["parallel", "parallel", "parallel"]} ins(%first, %y : tensor<2x3x5xf32>, tensor<2x3x5xf32>) outs(%e : tensor<2x3x5xf32>) {
  ^bb0(%p: f32, %q: f32, %out: f32):
    %s = arith.addf %p, %q : f32
    linalg.yield %s : f32
  } -> tensor<2x3x5xf32>
  return %sum : tensor<2x3x5xf32>
}
