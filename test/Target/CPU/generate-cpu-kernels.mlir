// RUN: lowbit-opt %s --lowbit-generate-cpu-kernels="isa=avx2,avx512vnni" | FileCheck %s
// RUN: not lowbit-opt %s --lowbit-generate-cpu-kernels="isa=sse9" 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// UNKNOWN: error: no kernel variant is called 'sse9'

lowbit_rt.kernel @qgemm_0 generator("cpu.qgemm") schedule({chunk = 96 : i64, conv = 0 : i64, length = 8 : i64, mr = 16 : i64,
  n = 16 : i64, nr = 1 : i64, output_max = 255 : i64, output_min = 0 : i64, output_zero = 9 : i64, relu = 0 : i64, runs_h = 1 : i64, runs_w = 1 : i64})

// One function per variant, and a wrapper that asks the runtime which.
// CHECK: module attributes {lowbit_rt.isa = ["avx2", "avx512vnni"]}
// CHECK-NOT: lowbit_rt.kernel
// CHECK: func.func private @qgemm_0.avx2({{.*}}) attributes {passthrough = {{.*}}"target-features", "+avx2,+fma"
// Without saturation: bytes widened to 16 bits, then vpmaddwd.
// CHECK: arith.extsi {{.*}} : vector<16xi8> to vector<16xi16>
// CHECK: llvm.call_intrinsic "llvm.x86.avx2.pmadd.wd"
// CHECK-NOT: pmaddubs
// The one epilogue: + bias, to f32, one multiplication, round half to even, saturate, + zero point.
// CHECK: arith.addi {{.*}} : vector<16xi32>
// CHECK: arith.sitofp
// CHECK: arith.mulf
// CHECK: math.roundeven
// CHECK: arith.fptosi
// CHECK: func.func private @qgemm_0.avx512vnni({{.*}}) attributes {passthrough = {{.*}}+avx512vnni
// CHECK: llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"
// CHECK: func.func private @qgemm_0.launch
// CHECK: %[[ISA:.*]] = lowbit_rt.isa
// CHECK: arith.cmpi eq, %[[ISA]]
// CHECK: lowbit_rt.parallel @qgemm_0.avx2
// CHECK: lowbit_rt.parallel @qgemm_0.avx512vnni

// CHECK-LABEL: func.func @main
func.func @main(%x: memref<?x8xi8>, %w: memref<128xi8>, %b: memref<16xi32>, %m: memref<16xf32>, %y: memref<?x16xi8>) {
  // CHECK-COUNT-2: call @qgemm_0.launch
  lowbit_rt.launch @qgemm_0 ins(%x, %w, %b, %m : memref<?x8xi8>, memref<128xi8>, memref<16xi32>, memref<16xf32>) outs(%y : memref<?x16xi8>)
  lowbit_rt.launch @qgemm_0 ins(%x, %w, %b, %m : memref<?x8xi8>, memref<128xi8>, memref<16xi32>, memref<16xf32>) outs(%y : memref<?x16xi8>)
  return
}
