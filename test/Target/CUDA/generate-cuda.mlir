// RUN: lowbit-opt %s --lowbit-generate-cuda --split-input-file --verify-diagnostics | FileCheck %s

// Two warps of 16 × 16: per step of 32 k one matrix load of each operand and two multiplications.
// CHECK-LABEL: gpu.module @k_device
// CHECK: llvm.mlir.global external @lowbit_shared() {addr_space = 3 : i32, alignment = 128 : i64} : !llvm.array<0 x i8>
// CHECK: gpu.func @k(%{{.*}}: !llvm.ptr<1> {llvm.noalias, llvm.readonly}, %{{.*}}: !llvm.ptr<1> {llvm.noalias, llvm.readonly}, %{{.*}}: !llvm.ptr<1> {llvm.noalias, llvm.readonly}, %{{.*}}: !llvm.ptr<1> {llvm.noalias}, %{{.*}}: i32) kernel
// CHECK-SAME: lowbit.launch = array<i64: 64, 16, 1, 9216>
// CHECK: nvvm.cp.async.shared.global {{.*}}, 16, cache =  cg
// CHECK: scf.for
// CHECK: nvvm.cp.async.wait.group 1
// CHECK: nvvm.barrier0
// CHECK: nvvm.cp.async.commit.group
// CHECK: nvvm.ldmatrix {{.*}} {eltType = #nvvm.ld_st_matrix_elt_type<b16>, layout = #nvvm.mma_layout<row>, num = 4 : i32
// CHECK: nvvm.ldmatrix
// CHECK: nvvm.mma.sync {{.*}}intOverflowBehavior = #nvvm.mma_int_overflow<wrapped>{{.*}}multiplicandAPtxType = #nvvm.mma_type<u8>, multiplicandBPtxType = #nvvm.mma_type<s8>
// CHECK: nvvm.mma.sync
// CHECK: nvvm.ldmatrix
// CHECK: nvvm.ldmatrix
// CHECK: nvvm.mma.sync
// CHECK: nvvm.mma.sync
// CHECK-NOT: nvvm.mma.sync
// CHECK: scf.yield
// One conversion, one multiplication, one rounding.
// CHECK: arith.sitofp
// CHECK-NEXT: arith.mulf
// CHECK-NEXT: llvm.call_intrinsic "llvm.nvvm.f2i.rn"
// CHECK-NEXT: arith.maxsi
// CHECK-NEXT: arith.minsi
// CHECK-NEXT: arith.addi
// CHECK-NEXT: arith.trunci
lowbit_rt.kernel @k generator("cuda.mma_s8") schedule({input = "u8", output = "u8", n = 32 : i64, k = 256 : i64, stages = 3 : i64, tile = array<i64: 16, 32, 64>, warps = array<i64: 1, 2>})

// -----

// expected-error@+1 {{unknown generator 'cuda.fft'}}
lowbit_rt.kernel @k generator("cuda.fft") schedule({})

// -----

// expected-error@+1 {{kernel schedule: expects 'input' to be u8, i8, i32, i64 or f32}}
lowbit_rt.kernel @k generator("cuda.mma_s8") schedule({input = "f64"})

// -----

// expected-error@+1 {{kernel schedule: expects k tiles of 64, two stages or more, and 16 x 16 results or more per warp}}
lowbit_rt.kernel @k generator("cuda.mma_s8") schedule({input = "u8", output = "u8", n = 32 : i64, k = 256 : i64, stages = 3 : i64, tile = array<i64: 8, 32, 64>, warps = array<i64: 1, 2>})

// -----

// expected-error@+1 {{kernel schedule: needs 131072 bytes of shared memory; every GPU has 101376}}
lowbit_rt.kernel @k generator("cuda.mma_s8") schedule({input = "u8", output = "u8", n = 32 : i64, k = 256 : i64, stages = 8 : i64, tile = array<i64: 128, 128, 64>, warps = array<i64: 2, 2>})
