// RUN: lowbit-opt %s --lowbit-expand-reshapes | FileCheck %s

// CHECK-LABEL: func.func @two_unknown
// CHECK: memref.extract_strided_metadata %{{.*}} : memref<?x64xf32>
// CHECK: %[[ROW:.*]] = arith.muli
// CHECK: memref.reinterpret_cast %{{.*}} to offset: [0], sizes: [%{{.*}}, %{{.*}}, 64], strides: [%[[ROW]], 64, 1]
func.func @two_unknown(%m: memref<?x64xf32>, %b: index, %s: index) -> memref<?x?x64xf32> {
  %0 = memref.expand_shape %m [[0, 1], [2]] output_shape [%b, %s, 64] : memref<?x64xf32> into memref<?x?x64xf32>
  return %0 : memref<?x?x64xf32>
}

// One unknown size is upstream's case.
// CHECK-LABEL: func.func @one_unknown
// CHECK: memref.expand_shape
func.func @one_unknown(%m: memref<?x64xf32>, %b: index) -> memref<?x4x64xf32> {
  %0 = memref.expand_shape %m [[0, 1], [2]] output_shape [%b, 4, 64] : memref<?x64xf32> into memref<?x4x64xf32>
  return %0 : memref<?x4x64xf32>
}
