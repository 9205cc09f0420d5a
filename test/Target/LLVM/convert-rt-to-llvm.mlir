// RUN: lowbit-opt %s --lowbit-convert-rt-to-llvm | FileCheck %s

// CHECK-DAG: llvm.mlir.global internal @lowbit_table
// CHECK-DAG: llvm.mlir.global internal @lowbit_weights
// CHECK-DAG: llvm.mlir.global internal constant @lowbit_message_0("index out of range\00")

func.func private @body(%begin: index, %end: index, %x: memref<?xf32>) {
  return
}

// CHECK-LABEL: func.func @f
func.func @f(%x: memref<?xf32>, %n: index, %ok: i1) {
  // The third entry of the callback table.
  // CHECK: llvm.mlir.addressof @body.task
  // CHECK: %[[TABLE:.*]] = llvm.load
  // CHECK: llvm.getelementptr %[[TABLE]][2]
  // CHECK: llvm.call %{{.*}}(%{{.*}}, %{{.*}}, %{{.*}}) : !llvm.ptr, (i64, !llvm.ptr, !llvm.ptr) -> ()
  lowbit_rt.parallel @body[%n](%x) : memref<?xf32>
  // CHECK: llvm.cond_br
  // CHECK: llvm.getelementptr %{{.*}}[4]
  lowbit_rt.assert %ok, "index out of range"
  // The sizes of the buffer, then the call.
  // CHECK: llvm.store %{{.*}}, %{{.*}} : i64, !llvm.ptr
  // CHECK: llvm.getelementptr %{{.*}}[3]
  // CHECK: llvm.call %{{.*}}(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) : !llvm.ptr, (i64, !llvm.ptr, i64, !llvm.ptr) -> ()
  lowbit_rt.observe %x id(5) : memref<?xf32>
  return
}

// Weights may be gigabytes long.
// CHECK-LABEL: func.func @far_weight
func.func @far_weight() -> memref<2x3xf32> {
  // CHECK: %[[FAR:.*]] = llvm.mlir.constant(3000000000 : i64)
  // CHECK: llvm.getelementptr %{{.*}}[%[[FAR]]]
  %0 = lowbit_rt.weight 3000000000 : memref<2x3xf32>
  return %0 : memref<2x3xf32>
}

// CHECK-LABEL: func.func @weight
func.func @weight() -> memref<2x3xf32> {
  // CHECK: llvm.mlir.addressof @lowbit_weights
  // CHECK: %[[PLACE:.*]] = llvm.mlir.constant(128 : i64)
  // CHECK: llvm.getelementptr %{{.*}}[%[[PLACE]]] : (!llvm.ptr, i64) -> !llvm.ptr, i8
  %0 = lowbit_rt.weight 128 : memref<2x3xf32>
  return %0 : memref<2x3xf32>
}

// The task unpacks the arguments and calls the body.
// CHECK: llvm.func internal @body.task(%{{.*}}: !llvm.ptr, %{{.*}}: i64, %{{.*}}: i64)
// CHECK: call @body
