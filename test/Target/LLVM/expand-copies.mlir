// RUN: lowbit-opt %s --lowbit-expand-copies | FileCheck %s

// CHECK-LABEL: func.func @copies
func.func @copies(%a: memref<4x4xf32, strided<[8, 1]>>, %b: memref<4x4xf32>, %c: memref<4x4xf32>) {
  // Rows with gaps would need a library.
  // CHECK: linalg.generic {{.*}} ins(%{{.*}} : memref<4x4xf32, strided<[8, 1]>>)
  memref.copy %a, %b : memref<4x4xf32, strided<[8, 1]>> to memref<4x4xf32>
  // One block is a memcpy.
  // CHECK: memref.copy
  memref.copy %b, %c : memref<4x4xf32> to memref<4x4xf32>
  return
}
