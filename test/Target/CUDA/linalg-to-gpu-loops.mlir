// RUN: lowbit-opt %s --pass-pipeline="builtin.module(func.func(lowbit-linalg-to-gpu-loops),func.func(convert-parallel-loops-to-gpu),canonicalize,cse)" | FileCheck %s

// One thread per element, counted in one dimension.
// CHECK-LABEL: func.func @elementwise
// CHECK: %[[POINTS:.*]] = arith.muli %{{.*}}, %c8
// CHECK: gpu.launch blocks(%[[B:.*]], %{{.*}}, %{{.*}}) in ({{.*}}) threads(%[[T:.*]], %{{.*}}, %{{.*}}) in (%{{.*}} = %c256
// CHECK: %[[I:.*]] = arith.addi
// CHECK: arith.cmpi ult, %[[I]], %[[POINTS]]
// CHECK: math.exp
func.func @elementwise(%a: memref<?x8xf32>, %b: memref<?x8xf32>) {
  linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]}
    ins(%a : memref<?x8xf32>) outs(%b : memref<?x8xf32>) {
  ^bb0(%x: f32, %y: f32):
    %e = math.exp %x : f32
    linalg.yield %e : f32
  }
  return
}

// A reduction over the leading axis: threads over the other, the sum inside of each.
// CHECK-LABEL: func.func @reduce_rows
// CHECK: gpu.launch
// CHECK: scf.for
// CHECK: arith.addf
// CHECK: gpu.terminator
func.func @reduce_rows(%a: memref<?x8xf32>, %c: memref<8xf32>) {
  linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d1)>], iterator_types = ["reduction", "parallel"]}
    ins(%a : memref<?x8xf32>) outs(%c : memref<8xf32>) {
  ^bb0(%x: f32, %y: f32):
    %s = arith.addf %x, %y : f32
    linalg.yield %s : f32
  }
  return
}

// A scalar is one thread's work.
// CHECK-LABEL: func.func @scalar
// CHECK: gpu.launch
func.func @scalar(%a: memref<f32>, %b: memref<f32>) {
  linalg.generic {indexing_maps = [affine_map<() -> ()>, affine_map<() -> ()>], iterator_types = []} ins(%a : memref<f32>) outs(%b : memref<f32>) {
  ^bb0(%x: f32, %y: f32):
    %s = arith.addf %x, %x : f32
    linalg.yield %s : f32
  }
  return
}
