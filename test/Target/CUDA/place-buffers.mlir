// RUN: lowbit-opt %s --pass-pipeline="builtin.module(func.func(lowbit-place-buffers))" --verify-diagnostics | FileCheck %s

#id = affine_map<(d0) -> (d0)>

// The size is read by the host and computed from what it knows: the host's. The sums are the device's.
// CHECK-LABEL: func @sizes
func.func @sizes(%x: memref<?xf32>, %shape: memref<2xi64>) -> memref<?xf32> {
  %c0 = arith.constant 0 : index
  %two = arith.constant 2 : i64
  // CHECK: %[[SIZE:.*]] = memref.alloc() : memref<2xi64>
  %size = memref.alloc() : memref<2xi64>
  // CHECK: linalg.generic
  // CHECK-SAME: lowbit_rt.on_host
  linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]} ins(%shape : memref<2xi64>) outs(%size : memref<2xi64>) {
  ^bb0(%a: i64, %b: i64):
    %d = arith.muli %a, %two : i64
    linalg.yield %d : i64
  }
  // CHECK: memref.load %[[SIZE]]
  %n = memref.load %size[%c0] : memref<2xi64>
  %m = arith.index_cast %n : i64 to index
  // CHECK: memref.dealloc %[[SIZE]]
  memref.dealloc %size : memref<2xi64>
  // CHECK: %[[Y:.*]] = lowbit_rt.device_alloc(%{{.*}}) : memref<?xf32>
  %y = memref.alloc(%m) : memref<?xf32>
  // CHECK: linalg.generic
  // CHECK-NOT: on_host
  linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]} ins(%x : memref<?xf32>) outs(%y : memref<?xf32>) {
  ^bb0(%a: f32, %b: f32):
    %d = arith.addf %a, %a : f32
    linalg.yield %d : f32
  }
  return %y : memref<?xf32>
}

// What the host stored, a kernel gets a copy of.
// CHECK-LABEL: func @upload
func.func @upload(%x: memref<2xi64>, %n: i64) -> memref<2xi64> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // CHECK: %[[HOST:.*]] = memref.alloc() : memref<2xi64>
  %pair = memref.alloc() : memref<2xi64>
  // CHECK: memref.store {{.*}}, %[[HOST]]
  memref.store %n, %pair[%c0] : memref<2xi64>
  memref.store %n, %pair[%c1] : memref<2xi64>
  // CHECK: lowbit_rt.device_alloc() : memref<2xi64>
  %y = memref.alloc() : memref<2xi64>
  // CHECK: %[[COPY:.*]] = lowbit_rt.device_alloc() : memref<2xi64>
  // CHECK: lowbit_rt.transfer %[[HOST]] to %[[COPY]]
  // CHECK: linalg.generic {{.*}} ins(%[[COPY]], %{{.*}} : memref<2xi64>, memref<2xi64>)
  linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]} ins(%pair, %x : memref<2xi64>, memref<2xi64>) outs(%y : memref<2xi64>) {
  ^bb0(%a: i64, %b: i64, %c: i64):
    %d = arith.addi %a, %b : i64
    linalg.yield %d : i64
  }
  // CHECK: lowbit_rt.device_free %[[COPY]]
  // CHECK: memref.dealloc %[[HOST]]
  memref.dealloc %pair : memref<2xi64>
  return %y : memref<2xi64>
}

// A kernel's result that the host loads, in a loop that does not change it: one copy before the loop. The buffer that
// both the kernel and the host write is the device's, and the store a kernel of one thread.
// CHECK-LABEL: func @wait
// CHECK-SAME: attributes {lowbit_rt.synchronizes}
func.func @wait(%x: memref<4xi32>, %w: memref<4xi32>) -> memref<4xi32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %zero = arith.constant 0 : i32
  // CHECK: %[[Y:.*]] = lowbit_rt.device_alloc() : memref<4xi32>
  %y = memref.alloc() : memref<4xi32>
  lowbit_rt.launch @k ins(%x, %w : memref<4xi32>, memref<4xi32>) outs(%y : memref<4xi32>)
  // CHECK: lowbit_rt.launch
  // CHECK: %[[SEEN:.*]] = memref.alloc() : memref<4xi32>
  // CHECK: lowbit_rt.transfer %[[Y]] to %[[SEEN]]
  // CHECK: scf.for
  // CHECK: memref.load %[[SEEN]]
  %sum = scf.for %i = %c0 to %c4 step %c1 iter_args(%s = %zero) -> i32 {
    // expected-remark @+1 {{the host waits for a value that the GPU computes}}
    %v = memref.load %y[%i] : memref<4xi32>
    %t = arith.addi %s, %v : i32
    scf.yield %t : i32
  }
  // CHECK: memref.dealloc %[[SEEN]]
  // CHECK: scf.parallel
  // CHECK: scf.parallel
  // CHECK: memref.store %{{.*}}, %[[Y]]
  memref.store %sum, %y[%c0] : memref<4xi32>
  return %y : memref<4xi32>
}

// An input whose values the host reads: launches may depend on them.
// CHECK-LABEL: func @read
// CHECK-SAME: attributes {lowbit_rt.host_reads = array<i64: 1>}
func.func @read(%x: memref<?xi32>, %n: memref<1xindex>) -> memref<?xi32> {
  %c0 = arith.constant 0 : index
  %size = memref.load %n[%c0] : memref<1xindex>
  %y = memref.alloc(%size) : memref<?xi32>
  lowbit_rt.launch @k ins(%x, %x : memref<?xi32>, memref<?xi32>) outs(%y : memref<?xi32>)
  return %y : memref<?xi32>
}
