// RUN: lowbit-opt %s --lowbit-outline-loops | FileCheck %s

// Two loop nests of one shape are one function; what is written is memory of its own.
// CHECK:      func.func private @loops(%{{.*}}: memref<?x4xf32>, %[[OUT:.*]]: memref<?x4xf32>)
// CHECK-SAME:   lowbit_rt.noalias = array<i64: 8>, passthrough = ["noinline"]
// CHECK-NEXT:   %[[TWO:.*]] = arith.constant 2.000000e+00
// CHECK-NEXT:   linalg.generic
// CHECK-NOT:    lowbit.layer
// CHECK:        return
// In place it is one argument. A view of the same memory beside it: nothing is said.
// CHECK:      func.func private @loops_0(%{{.*}}: memref<?x4xf32>) attributes {lowbit_rt.noalias = array<i64: 1>
// CHECK:      func.func private @loops_1(%{{.*}}: memref<?x4xf32>, %{{.*}}: memref<?x4xf32>) attributes {passthrough
// CHECK-LABEL: func.func @main_graph
func.func @main_graph(%x: memref<?x4xf32>) -> memref<?x4xf32> {
  %c0 = arith.constant 0 : index
  %two = arith.constant 2.0 : f32
  %n = memref.dim %x, %c0 : memref<?x4xf32>
  %a = memref.alloc(%n) : memref<?x4xf32>
  %b = memref.alloc(%n) : memref<?x4xf32>
  // CHECK: call @loops(%{{.*}}, %[[A:[a-z0-9_]+]])
  linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
    ins(%x : memref<?x4xf32>) outs(%a : memref<?x4xf32>) attrs = {lowbit.layer = "first"} {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.mulf %in, %two : f32
    linalg.yield %0 : f32
  }
  // CHECK: call @loops(%[[A]], %[[B:[a-z0-9_]+]])
  linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
    ins(%a : memref<?x4xf32>) outs(%b : memref<?x4xf32>) attrs = {lowbit.layer = "second"} {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.mulf %in, %two : f32
    linalg.yield %0 : f32
  }
  // CHECK: call @loops_0(%[[B]])
  linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
    ins(%b : memref<?x4xf32>) outs(%b : memref<?x4xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.addf %in, %two : f32
    linalg.yield %0 : f32
  }
  %view = memref.cast %b : memref<?x4xf32> to memref<?x4xf32, strided<[4, 1], offset: ?>>
  %same = memref.reinterpret_cast %view to offset: [0], sizes: [%n, 4], strides: [4, 1] : memref<?x4xf32, strided<[4, 1], offset: ?>> to memref<?x4xf32>
  linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
    ins(%same : memref<?x4xf32>) outs(%b : memref<?x4xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.subf %in, %two : f32
    linalg.yield %0 : f32
  }
  return %b : memref<?x4xf32>
}
