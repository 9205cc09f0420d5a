// RUN: lowbit-opt %s --lowbit-bfloat-to-bits | FileCheck %s

// CHECK-LABEL: llvm.func @moved
// CHECK-NOT: bf16
// CHECK: llvm.mlir.constant(32704 : i16) : i16
// CHECK: llvm.getelementptr {{.*}} -> !llvm.ptr, i16
// CHECK: llvm.load {{.*}} -> i16
// CHECK: llvm.store {{.*}} : i16, !llvm.ptr
llvm.func @moved(%p: !llvm.ptr, %c: i1, %i: i64) {
  %nan = llvm.mlir.constant(0x7FC0 : bf16) : bf16
  %0 = llvm.getelementptr %p[%i] : (!llvm.ptr, i64) -> !llvm.ptr, bf16
  %1 = llvm.load %0 : !llvm.ptr -> bf16
  %2 = llvm.bitcast %1 : bf16 to i16
  %3 = llvm.bitcast %2 : i16 to bf16
  %4 = llvm.select %c, %nan, %3 : i1, bf16
  llvm.store %4, %0 : bf16, !llvm.ptr
  llvm.return
}

// CHECK-LABEL: llvm.func @computes
// CHECK: llvm.fpext %{{.*}} : bf16 to f32
llvm.func @computes(%p: !llvm.ptr) -> f32 {
  %0 = llvm.load %p : !llvm.ptr -> bf16
  %1 = llvm.fpext %0 : bf16 to f32
  llvm.return %1 : f32
}
