// RUN: lowbit-opt %s --lowbit-convert-rt-to-llvm | FileCheck %s

// Sizes in bytes; blocks, threads and shared memory as seven words, then one word per argument.
// CHECK-LABEL: func.func @device
func.func @device(%x: memref<?x4xf32>, %n: index, %rows: i32) {
  // CHECK: llvm.alloca %{{.*}} x i64
  // CHECK: llvm.alloca %{{.*}} x i64
  // CHECK: %[[BYTES:.*]] = llvm.ptrtoint %{{.*}} : !llvm.ptr to i64
  // CHECK: llvm.getelementptr %{{.*}}[6]
  // CHECK: %[[Y:.*]] = llvm.call %{{.*}}(%[[BYTES]]) : !llvm.ptr, (i64) -> !llvm.ptr
  %y = lowbit_rt.device_alloc(%n) : memref<?x4xf32>
  // CHECK: llvm.getelementptr %{{.*}}[8]
  // CHECK: llvm.call %{{.*}}(%{{.*}}, %{{.*}}, %{{.*}}) : !llvm.ptr, (!llvm.ptr, !llvm.ptr, i64) -> ()
  lowbit_rt.transfer %x to %y : memref<?x4xf32>, memref<?x4xf32>
  // CHECK-COUNT-7: llvm.store %{{.*}} : i64, !llvm.ptr
  // CHECK: llvm.store %{{.*}} : i32, !llvm.ptr
  // CHECK: llvm.getelementptr %{{.*}}[9]
  // CHECK: llvm.call %{{.*}}(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) : !llvm.ptr, (i64, !llvm.ptr, !llvm.ptr, i64) -> ()
  lowbit_rt.enqueue 3 grid(%n, %n, %n) block(%n, %n, %n) shared 64 args(%rows : i32)
  // CHECK: llvm.getelementptr %{{.*}}[7]
  // CHECK: llvm.call %{{.*}}(%{{.*}}) : !llvm.ptr, (!llvm.ptr) -> ()
  lowbit_rt.device_free %y : memref<?x4xf32>
  return
}
