// RUN: lowbit-opt %s --lowbit-place-weights | FileCheck %s

// Places are multiples of 64; equal bytes share one, whatever their type.
// CHECK-DAG: @a {{.*}} {lowbit_rt.offset = 0 : i64}
// CHECK-DAG: @b {{.*}} {lowbit_rt.offset = 64 : i64}
// CHECK-DAG: @same_as_a {{.*}} {lowbit_rt.offset = 0 : i64}
memref.global "private" constant @a : memref<2xf32> = dense<[1.0, 2.0]>
memref.global "private" constant @b : memref<3xi8> = dense<[1, 2, 3]>
memref.global "private" constant @same_as_a : memref<2xi32> = dense<[1065353216, 1073741824]>
// A buffer that is not constant is no weight.
memref.global "private" @scratch : memref<4xf32>

// CHECK-LABEL: func.func @f
func.func @f() -> (memref<3xi8>, memref<4xf32>) {
  // CHECK: lowbit_rt.weight 64 : memref<3xi8>
  %0 = memref.get_global @b : memref<3xi8>
  // CHECK: memref.get_global @scratch
  %1 = memref.get_global @scratch : memref<4xf32>
  return %0, %1 : memref<3xi8>, memref<4xf32>
}
