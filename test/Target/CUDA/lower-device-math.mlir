// RUN: lowbit-opt %s --pass-pipeline="builtin.module(gpu.module(lowbit-lower-device-math))" | FileCheck %s

// CHECK-NOT: math.
gpu.module @m {
  // CHECK-LABEL: gpu.func @instructions
  gpu.func @instructions(%x: f32, %y: f64) -> (f32, f32, f64, f32, i1) {
    // CHECK: llvm.call_intrinsic "llvm.roundeven.f32"(%{{.*}}) : (f32) -> f32
    %0 = math.roundeven %x : f32
    // CHECK: llvm.call_intrinsic "llvm.fma.f32"
    %1 = math.fma %x, %x, %x : f32
    // CHECK: llvm.call_intrinsic "llvm.sqrt.f64"
    %2 = math.sqrt %y : f64
    // CHECK: llvm.call_intrinsic "llvm.maximum.f32"
    %3 = arith.maximumf %x, %0 : f32
    // CHECK: arith.cmpf uno
    %4 = math.isnan %x : f32
    gpu.return %0, %1, %2, %3, %4 : f32, f32, f64, f32, i1
  }
  // Polynomials.
  // CHECK-LABEL: gpu.func @functions
  gpu.func @functions(%x: f32) -> (f32, f32, f32, f32, f32, f32) {
    %0 = math.exp %x : f32
    %1 = math.tanh %x : f32
    %2 = math.erf %x : f32
    %3 = math.log10 %x : f32
    %4 = math.powf %x, %x : f32
    %5 = math.rsqrt %x : f32
    gpu.return %0, %1, %2, %3, %4, %5 : f32, f32, f32, f32, f32, f32
  }
}
