// RUN: lowbit-opt %s --lowbit-schedule-cpu-contractions --split-input-file | FileCheck %s

// Rows of unknown number by a constant: packed 16 columns wide, zeros past the second. The sums start from the bias.

#x = affine_map<(m, k, n) -> (m, k)>
#w = affine_map<(m, k, n) -> (k, n)>
#y = affine_map<(m, k, n) -> (m, n)>
// CHECK: lowbit_rt.kernel @fgemm_0 generator("cpu.fgemm") schedule({bias = 1 : i64, chunk = 96 : i64, conv = 0 : i64, nr = 1 : i64, partial = 1 : i64, shared = 0 : i64})
// CHECK-LABEL: func.func @constant
func.func @constant(%x: tensor<?x3xf32>, %b: tensor<2xf32>) -> tensor<?x2xf32> {
  %w = arith.constant dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xf32>
  %c0 = arith.constant 0 : index
  %m = tensor.dim %x, %c0 : tensor<?x3xf32>
  %e = tensor.empty(%m) : tensor<?x2xf32>
  %init = linalg.generic {indexing_maps = [affine_map<(m, n) -> (n)>, affine_map<(m, n) -> (m, n)>], iterator_types = ["parallel", "parallel"]}
    ins(%b : tensor<2xf32>) outs(%e : tensor<?x2xf32>) {
  ^bb0(%in: f32, %out: f32):
    linalg.yield %in : f32
  } -> tensor<?x2xf32>
  // CHECK-DAG: arith.constant dense<[1.000000e+00, 2.000000e+00, 0.000000e+00, {{.*}}, 3.000000e+00, 4.000000e+00, 0.000000e+00, {{.*}}> : tensor<48xf32>
  // CHECK-DAG: tensor.expand_shape %arg0 {{\[\[}}0, 1], [2]] output_shape [1, %{{.*}}, 3]
  // CHECK: lowbit_rt.launch @fgemm_0 ins(%{{.*}}, %{{.*}}, %arg1 : tensor<1x?x3xf32>, tensor<48xf32>, tensor<2xf32>) outs(%{{.*}} : tensor<1x?x2xf32>)
  // CHECK-NOT: linalg.generic {{.*}}reduction
  %y = linalg.generic {indexing_maps = [#x, #w, #y], iterator_types = ["parallel", "reduction", "parallel"]}
    ins(%x, %w : tensor<?x3xf32>, tensor<3x2xf32>) outs(%init : tensor<?x2xf32>) {
  ^bb0(%a: f32, %c: f32, %s: f32):
    %p = arith.mulf %a, %c : f32
    %t = arith.addf %s, %p : f32
    linalg.yield %t : f32
  } -> tensor<?x2xf32>
  return %y : tensor<?x2xf32>
}

// -----

// Both operands come from the run, and the second lies transposed: the packing kernel reads it as it is.

// CHECK-DAG: lowbit_rt.kernel @fpack_0 generator("cpu.fpack") schedule({nr = 1 : i64, transposed = 1 : i64})
// CHECK-DAG: lowbit_rt.kernel @fgemm_1
// CHECK-LABEL: func.func @attention
func.func @attention(%q: tensor<4x6x5xf32>, %k: tensor<4x7x5xf32>) -> tensor<4x6x7xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<4x6x7xf32>
  %init = linalg.fill ins(%zero : f32) outs(%e : tensor<4x6x7xf32>) -> tensor<4x6x7xf32>
  // CHECK: %[[PACKED:.*]] = lowbit_rt.launch @fpack_0 ins(%arg1 : tensor<4x7x5xf32>) outs(%{{.*}} : tensor<320xf32>)
  // CHECK: lowbit_rt.launch @fgemm_1 ins(%arg0, %[[PACKED]] : tensor<4x6x5xf32>, tensor<320xf32>) outs(%{{.*}} : tensor<4x6x7xf32>)
  %y = linalg.generic {indexing_maps = [affine_map<(g, m, n, k) -> (g, m, k)>, affine_map<(g, m, n, k) -> (g, n, k)>, affine_map<(g, m, n, k) -> (g, m, n)>],
    iterator_types = ["parallel", "parallel", "parallel", "reduction"]} ins(%q, %k : tensor<4x6x5xf32>, tensor<4x7x5xf32>) outs(%init : tensor<4x6x7xf32>) {
  ^bb0(%a: f32, %c: f32, %s: f32):
    %p = arith.mulf %a, %c : f32
    %t = arith.addf %s, %p : f32
    linalg.yield %t : f32
  } -> tensor<4x6x7xf32>
  return %y : tensor<4x6x7xf32>
}

// -----

// A convolution with channels last: what tells one from another is an operand, so that all share a kernel. Where it is dilated, each
// element of the kernel is a run of its own.

// CHECK-COUNT-1: lowbit_rt.kernel
// CHECK-NOT: lowbit_rt.kernel
// CHECK-LABEL: func.func @conv
func.func @conv(%x: tensor<1x8x8x4xf32>, %start: tensor<1x6x6x16xf32>) -> (tensor<1x6x6x16xf32>, tensor<1x4x4x16xf32>) {
  %w = arith.constant dense<1.0> : tensor<3x3x4x16xf32>
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<1x4x4x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%e : tensor<1x4x4x16xf32>) -> tensor<1x4x4x16xf32>
  // CHECK: %[[PLAIN:.*]] = arith.constant dense<[3, 1, 12, 1, 1, 1, 1]> : tensor<7xi64>
  // CHECK: %[[SUMS:.*]] = lowbit_rt.launch @fgemm_0 ins(%arg0, %{{.*}}, %[[PLAIN]] :
  // What the sums start from is added at the end where it is no bias.
  // CHECK: linalg.add ins(%[[SUMS]], %arg1
  // CHECK: %[[DILATED:.*]] = arith.constant dense<[3, 3, 4, 1, 1, 2, 2]> : tensor<7xi64>
  // CHECK: lowbit_rt.launch @fgemm_0 ins(%arg0, %{{.*}}, %[[DILATED]] :
  %y = linalg.generic {indexing_maps = [affine_map<(b, y, x, i, j, c, f) -> (b, y + i, x + j, c)>, affine_map<(b, y, x, i, j, c, f) -> (i, j, c, f)>,
    affine_map<(b, y, x, i, j, c, f) -> (b, y, x, f)>], iterator_types = ["parallel", "parallel", "parallel", "reduction", "reduction", "reduction", "parallel"]}
    ins(%x, %w : tensor<1x8x8x4xf32>, tensor<3x3x4x16xf32>) outs(%start : tensor<1x6x6x16xf32>) {
  ^bb0(%a: f32, %d: f32, %s: f32):
    %p = arith.mulf %a, %d : f32
    %t = arith.addf %s, %p : f32
    linalg.yield %t : f32
  } -> tensor<1x6x6x16xf32>
  %z = linalg.generic {indexing_maps = [affine_map<(b, y, x, i, j, c, f) -> (b, y + i * 2, x + j * 2, c)>, affine_map<(b, y, x, i, j, c, f) -> (i, j, c, f)>,
    affine_map<(b, y, x, i, j, c, f) -> (b, y, x, f)>], iterator_types = ["parallel", "parallel", "parallel", "reduction", "reduction", "reduction", "parallel"]}
    ins(%x, %w : tensor<1x8x8x4xf32>, tensor<3x3x4x16xf32>) outs(%init : tensor<1x4x4x16xf32>) {
  ^bb0(%a: f32, %d: f32, %s: f32):
    %p = arith.mulf %a, %d : f32
    %t = arith.addf %s, %p : f32
    linalg.yield %t : f32
  } -> tensor<1x4x4x16xf32>
  return %y, %z : tensor<1x6x6x16xf32>, tensor<1x4x4x16xf32>
}

// -----

// Other element types, and sums of other things, stay loops.

// CHECK-LABEL: func.func @left
// CHECK-NOT: lowbit_rt.launch
func.func @left(%x: tensor<4x4xf64>, %y: tensor<4x4xf64>, %init: tensor<4x4xf64>) -> tensor<4x4xf64> {
  %z = linalg.generic {indexing_maps = [affine_map<(m, k, n) -> (m, k)>, affine_map<(m, k, n) -> (k, n)>, affine_map<(m, k, n) -> (m, n)>],
    iterator_types = ["parallel", "reduction", "parallel"]} ins(%x, %y : tensor<4x4xf64>, tensor<4x4xf64>) outs(%init : tensor<4x4xf64>) {
  ^bb0(%a: f64, %d: f64, %s: f64):
    %p = arith.mulf %a, %d : f64
    %t = arith.addf %s, %p : f64
    linalg.yield %t : f64
  } -> tensor<4x4xf64>
  return %z : tensor<4x4xf64>
}
