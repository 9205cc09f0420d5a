// RUN: lowbit-opt %s --lowbit-fuse-elementwise | FileCheck %s

#row = affine_map<(d0, d1) -> (d0, d1)>
#column = affine_map<(d0, d1) -> (d1, d0)>
#x = affine_map<(d0, d1, d2) -> (d0, d1)>
#w = affine_map<(d0, d1, d2) -> (d1, d2)>
#y = affine_map<(d0, d1, d2) -> (d0, d2)>

// A reader that transposes uses each element once.

// CHECK-LABEL: func.func @transposed
// CHECK-COUNT-1: linalg.generic
// CHECK: arith.negf
// CHECK: math.exp
// CHECK-NOT: linalg.generic
func.func @transposed(%a: tensor<4x8xf32>) -> tensor<8x4xf32> {
  %i0 = tensor.empty() : tensor<4x8xf32>
  %0 = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]} ins(%a : tensor<4x8xf32>) outs(%i0 : tensor<4x8xf32>) {
  ^bb0(%e: f32, %o: f32):
    %n = arith.negf %e : f32
    linalg.yield %n : f32
  } -> tensor<4x8xf32>
  %i1 = tensor.empty() : tensor<8x4xf32>
  %1 = linalg.generic {indexing_maps = [#column, #row], iterator_types = ["parallel", "parallel"]} ins(%0 : tensor<4x8xf32>) outs(%i1 : tensor<8x4xf32>) {
  ^bb0(%e: f32, %o: f32):
    %n = math.exp %e : f32
    linalg.yield %n : f32
  } -> tensor<8x4xf32>
  return %1 : tensor<8x4xf32>
}

// Weights are read once per row of the input: dequantizing them stays apart.

// CHECK-LABEL: func.func @weights
// CHECK: %[[W:.*]] = linalg.generic {{.*}} ins(%{{.*}} : tensor<8x2xi8>)
// CHECK: arith.sitofp
// CHECK: linalg.generic {{.*}} ins(%{{.*}}, %[[W]] : tensor<4x8xf32>, tensor<8x2xf32>)
func.func @weights(%a: tensor<4x8xf32>, %q: tensor<8x2xi8>, %init: tensor<4x2xf32>) -> tensor<4x2xf32> {
  %i0 = tensor.empty() : tensor<8x2xf32>
  %0 = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]} ins(%q : tensor<8x2xi8>) outs(%i0 : tensor<8x2xf32>) {
  ^bb0(%e: i8, %o: f32):
    %n = arith.sitofp %e : i8 to f32
    linalg.yield %n : f32
  } -> tensor<8x2xf32>
  %1 = linalg.generic {indexing_maps = [#x, #w, #y], iterator_types = ["parallel", "reduction", "parallel"]} ins(%a, %0 : tensor<4x8xf32>, tensor<8x2xf32>) outs(%init : tensor<4x2xf32>) {
  ^bb0(%l: f32, %r: f32, %o: f32):
    %p = arith.mulf %l, %r : f32
    %s = arith.addf %o, %p : f32
    linalg.yield %s : f32
  } -> tensor<4x2xf32>
  return %1 : tensor<4x2xf32>
}
