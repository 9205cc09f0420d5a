// RUN: rm -rf %t
// RUN: lowbit-opt %S/Inputs/kernels.mlir --lowbit-generate-cuda --lowbit-emit-cuda="chip=sm_80 format=ptx output=%t" -o /dev/null
// RUN: cat %t/int8_large_device.ptx | FileCheck %s --check-prefix=CHECK-INT8
// RUN: cat %t/int8_large_device.ptx | FileCheck %s --check-prefix=CHECK-SUMS
// RUN: cat %t/int8_small_device.ptx | FileCheck %s --check-prefix=CHECK-CONV
// RUN: cat %t/int4_large_device.ptx | FileCheck %s --check-prefix=CHECK-INT4
// RUN: cat %t/int8_weights_device.ptx | FileCheck %s --check-prefix=CHECK-W8
// RUN: cat %t/half_linear_device.ptx | FileCheck %s --check-prefixes=CHECK-HALF,CHECK-ROWS
// RUN: cat %t/half_conv_device.ptx | FileCheck %s --check-prefixes=CHECK-HALF,CHECK-ROWS
// RUN: cat %t/gemv_int4_device.ptx | FileCheck %s --check-prefixes=CHECK-GEMV,CHECK-GEMV4
// RUN: cat %t/gemv_int8_device.ptx | FileCheck %s --check-prefixes=CHECK-GEMV,CHECK-GEMV8
// RUN: cat %t/gemv_half_device.ptx | FileCheck %s --check-prefix=CHECK-GEMV
// RUN: cat %t/depthwise4_device.ptx | FileCheck %s --check-prefix=CHECK-DEPTHWISE
// RUN: cat %t/rowquant_device.ptx | FileCheck %s --check-prefix=CHECK-ROWQUANT
// RUN: cat %t/int8_rows_device.ptx | FileCheck %s --check-prefix=CHECK-GIVEN
// RUN: cat %t/depthwise_device.ptx | FileCheck %s --check-prefix=CHECK-DIRECT
// RUN: cat %t/embedding_device.ptx | FileCheck %s --check-prefix=CHECK-GATHER
// Nothing is in local memory, and nothing calls a library.
// RUN: cat %t/*.ptx | FileCheck %s --check-prefix=CHECK-CLEAN

// CHECK-INT8: .target sm_80
// CHECK-INT8: .visible .entry int8_large(
// CHECK-INT8: .maxntid 128, 1, 1
// CHECK-INT8-DAG: cp.async.cg.shared.global [%{{.*}}], [%{{.*}}], 16;
// CHECK-INT8-DAG: cp.async.wait_group 2;
// CHECK-INT8-DAG: bar.sync 0;
// CHECK-INT8-DAG: ldmatrix.sync.aligned.m8n8.x4.shared.b16
// CHECK-SUMS-COUNT-64: mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32
// CHECK-SUMS-NOT: mma.sync
// The one rounding, and pairs of results stored together.
// CHECK-INT8: mul.rn.f32
// CHECK-INT8-NEXT: cvt.rni.s32.f32
// CHECK-INT8: st.global.v2.b8

// CHECK-CONV: mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32
// CHECK-CONV-NOT: satfinite

// CHECK-INT4-DAG: cvt.rn.f16x2.f32
// CHECK-INT4-DAG: ldmatrix.sync.aligned.m8n8.x4.shared.b16
// CHECK-INT4-DAG: lop3.b32 {{.*}}, 0xEA;
// CHECK-INT4-DAG: sub{{(.rn)?}}.f16x2
// CHECK-INT4-DAG: fma.rn.f16x2
// CHECK-INT4-DAG: mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
// CHECK-INT4-DAG: st.global.v2.b32

// CHECK-W8: prmt.b32 {{.*}}, 0x4140
// CHECK-W8: mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32

// Activations are read four at a time, in convolutions too: channels lie side by side. No weight is unpacked.
// CHECK-ROWS-DAG: ld.global.nc.v4.b32
// CHECK-HALF-DAG: cvt.rn.f16x2.f32
// CHECK-HALF-DAG: cp.async.cg.shared.global [%{{.*}}], [%{{.*}}], 16;
// CHECK-HALF-DAG: ldmatrix.sync.aligned.m8n8.x4.shared.b16
// CHECK-HALF-DAG: ld.shared.v4.b32
// CHECK-HALF-DAG: mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
// CHECK-HALF-DAG: st.global.v2.b32
// CHECK-HALF-NOT: lop3
// CHECK-HALF-NOT: prmt

// Weights come 16 bytes at a time and never see shared memory; nothing waits for a copy.
// CHECK-GEMV-DAG: ld.global.nc.v4.b32
// CHECK-GEMV-DAG: st.shared.v4.b32
// CHECK-GEMV-DAG: ldmatrix.sync.aligned.m8n8.x4.shared.b16
// CHECK-GEMV-DAG: bar.warp.sync
// CHECK-GEMV-DAG: mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
// CHECK-GEMV4-DAG: lop3.b32 {{.*}}, 0xEA;
// CHECK-GEMV8-DAG: prmt.b32 {{.*}}, 0x4140
// CHECK-GEMV-NOT: cp.async

// Nine elements of the window are three words of each of the four channels.
// CHECK-DEPTHWISE: ld.global.nc.b32
// CHECK-DEPTHWISE: prmt.b32 {{.*}}, 0x5140
// CHECK-DEPTHWISE: ld.global.nc.v4.b32
// CHECK-DEPTHWISE-COUNT-12: dp4a.u32.s32
// CHECK-DEPTHWISE-NOT: dp4a
// CHECK-DEPTHWISE: st.global.{{v4.b8|b32}}

// Division is IEEE's; nothing is fused.
// CHECK-ROWQUANT: ld.global.nc.v4.b32
// CHECK-ROWQUANT: shfl.sync.bfly.b32
// CHECK-ROWQUANT-NOT: fma.rn
// CHECK-ROWQUANT: div.rn.f32
// CHECK-ROWQUANT: cvt.rni.f32.f32
// CHECK-ROWQUANT: st.global.{{v4.b8|b32}}

// CHECK-GIVEN: mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32
// CHECK-GIVEN-NOT: fma.rn
// CHECK-GIVEN: mul.rn.f32
// CHECK-GIVEN: add.rn.f32
// CHECK-GIVEN: st.global.v2.b32

// CHECK-DIRECT: .visible .entry depthwise(
// CHECK-DIRECT-NOT: mma.sync

// CHECK-GATHER: .visible .entry embedding(
// CHECK-GATHER: trap;

// CHECK-CLEAN-NOT: .local
// CHECK-CLEAN-NOT: call
// CHECK-CLEAN-NOT: __nv_

// RUN: not lowbit-opt %s --lowbit-emit-cuda="chip=sm_12 output=%t" 2>&1 | FileCheck %s --check-prefix=CHECK-CHIP
// RUN: not lowbit-opt %s --lowbit-emit-cuda="format=elf output=%t" 2>&1 | FileCheck %s --check-prefix=CHECK-FORMAT
// RUN: not lowbit-opt %s --lowbit-emit-cuda="output=%s" 2>&1 | FileCheck %s --check-prefix=CHECK-FOLDER
// CHECK-CHIP: error: unknown GPU 'sm_12'; expects one of sm_80 sm_86 sm_87 sm_89 sm_90 sm_90a
// CHECK-FORMAT: error: unknown format 'elf'; expects ptx, cubin, llvm or emulator
// CHECK-FOLDER: error: cannot write {{.*}}fence_device.ptx: Not a directory

// What the emulator lacks is an error that names it.
// RUN: not lowbit-opt %s --lowbit-emit-cuda="format=emulator output=%t" 2>&1 | FileCheck %s --check-prefix=CHECK-UNKNOWN
// CHECK-UNKNOWN: error: the emulator does not know llvm.nvvm.read.ptx.sreg.clock (in fence)
// A library call is an error too.
// RUN: sed 's/^ *%%t = nvvm.read.*/%%r = math.exp %%x : f32\n    llvm.store %%r, %%p : f32, !llvm.ptr<1>/' %s | not lowbit-opt --lowbit-emit-cuda="output=%t" 2>&1 | FileCheck %s --check-prefix=CHECK-CALL
// CHECK-CALL: error: GPU code calls '__nv_expf', which no device library provides
gpu.module @fence_device {
  gpu.func @fence(%x: f32, %p: !llvm.ptr<1>) kernel {
    %t = nvvm.read.ptx.sreg.clock : i32
    gpu.return
  }
}
