// RUN: lowbit-opt %s --lowbit-expand-small-floats | FileCheck %s

// CHECK-LABEL: func.func @bf16
// bf16 arithmetic is f32 arithmetic; the way back is integer arithmetic: no conversion is left to LLVM.
// CHECK: arith.addf %{{.*}}, %{{.*}} : f32
// CHECK-NOT: arith.truncf
// CHECK: return
func.func @bf16(%a: bf16, %b: bf16) -> bf16 {
  %0 = arith.addf %a, %b : bf16
  return %0 : bf16
}

// CHECK-LABEL: func.func @rounded_once
// The 29 bits that an f32 has less than an f64 leave a sticky bit.
// CHECK: %[[REST:.*]] = arith.andi %[[BITS:.*]], %{{.*}} : i64
// CHECK: %[[INEXACT:.*]] = arith.cmpi ne, %[[REST]]
// CHECK: arith.select %[[INEXACT]]
// CHECK: arith.truncf %{{.*}} : f64 to f32
// CHECK: arith.truncf %{{.*}} : f32 to f16
func.func @rounded_once(%a: f64) -> f16 {
  %0 = arith.truncf %a : f64 to f16
  return %0 : f16
}

// CHECK-LABEL: func.func @hardware
// CHECK-NEXT: arith.truncf %{{.*}} : f32 to f16
// CHECK-NEXT: arith.addf %{{.*}} : f16
func.func @hardware(%a: f32, %b: f16) -> f16 {
  %0 = arith.truncf %a : f32 to f16
  %1 = arith.addf %0, %b : f16
  return %1 : f16
}

// CHECK-LABEL: func.func @stored
// A bf16 that is only moved is its bits.
// CHECK-SAME: memref<4xi16>
// CHECK: %[[ONE:.*]] = arith.constant 16256 : i16
// CHECK: arith.select %{{.*}}, %{{.*}}, %[[ONE]] : i16
func.func @stored(%a: memref<4xbf16>, %i: index, %c: i1) {
  %one = arith.constant 1.0 : bf16
  %0 = memref.load %a[%i] : memref<4xbf16>
  %1 = arith.select %c, %0, %one : bf16
  memref.store %1, %a[%i] : memref<4xbf16>
  return
}
