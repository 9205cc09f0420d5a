//===- Passes.td - passes of lib/Target/CUDA --------------*- tablegen -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
// One name, four places: def ScheduleCUDA = ScheduleCUDA.cpp = lowbit-schedule-cuda = test/Target/CUDA/schedule-cuda.mlir.

include "mlir/Pass/PassBase.td"

def ScheduleCUDA : Pass<"lowbit-schedule-cuda", "::mlir::ModuleOp"> {
  let summary = "Chooses CUDA kernels for the quantized operators";
  let description = [{
    Replaces `lowbit.linear` and `lowbit.conv` by launches of kernels: chooses the family and its tile sizes, packs
    weights, biases and multipliers as that kernel reads them, folds the input's zero point into the bias. Layers of
    equal shapes and schedules share a kernel. Convolutions run channels last: transposes are put around them. Float activations of 1 to 16 rows
    get a `cuda.gemv`; where the run gives the number of rows, both kernels are launched from an `scf.if` and read the same
    packed weights. What has no kernel stays as it is, with a remark that says why; `lowbit-to-linalg` decomposes it.

    Example: `lowbit.linear %x, %w scale(%s) …` becomes

    ```mlir
    lowbit_rt.kernel @linear_u8_64x64 generator("cuda.mma_s8") schedule({input = "u8", k = 64 : i64, n = 64 : i64, …})
    …
    %y = lowbit_rt.launch @linear_u8_64x64 ins(%x, %packed, %parameters : …) outs(%empty : tensor<8x64xui8>) -> tensor<8x64xui8>
    ```
  }];
  let options = [
    Option<"rows", "rows", "int64_t", "256",
           "Rows of a matrix product (or images × pixels, at least one image) that tiles are chosen for where a size is dynamic">,
  ];
  let statistics = [
    Statistic<"scheduled", "layers scheduled", "Layers that became a launch">,
    Statistic<"kernels", "kernels", "Distinct kernels">,
    Statistic<"left", "layers left", "Quantized layers without a CUDA kernel">,
  ];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::linalg::LinalgDialect", "::mlir::scf::SCFDialect", "::mlir::tensor::TensorDialect",
                           "::lowbit::rt::LowbitRTDialect"];
}

def GenerateCUDA : Pass<"lowbit-generate-cuda", "::mlir::ModuleOp"> {
  let summary = "Builds the code of the scheduled CUDA kernels";
  let description = [{
    Adds for each `lowbit_rt.kernel` whose generator is one of CUDA's a `gpu.module` of the same name with one kernel. Its
    parameters are pointers to the launch's inputs, then its outputs, then the number of rows as i32. The attribute
    `lowbit.launch` on the kernel holds threads per block, rows per block, blocks along y, and bytes of shared memory; the grid is
    (ceil(rows / rows per block), blocks along y).

    Example: `lowbit_rt.kernel @linear_u8_64x64 …` gets

    ```mlir
    gpu.module @linear_u8_64x64 {
      gpu.func @linear_u8_64x64(%x: !llvm.ptr<1>, …, %rows: i32) kernel attributes {lowbit.launch = array<i64: 128, 64, 1, 32768>} { … }
    }
    ```
  }];
  let statistics = [Statistic<"generated", "kernels generated", "Kernels generated">];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect", "::mlir::LLVM::LLVMDialect",
                           "::mlir::NVVM::NVVMDialect", "::mlir::scf::SCFDialect"];
}

def LinalgToGPULoops : Pass<"lowbit-linalg-to-gpu-loops", "::mlir::func::FuncOp"> {
  let summary = "linalg ops on buffers become loops over GPU threads";
  let description = [{
    One thread per point of the parallel iteration space, numbered in one dimension so that neighbours lie side by side
    in memory; reductions are loops inside of a thread. `convert-parallel-loops-to-gpu` and `gpu-kernel-outlining` then
    make kernels of it.

    Example: a `linalg.generic` that adds `memref<4x8xf32>`s becomes

    ```mlir
    scf.parallel (%block) = (%c0) to (%c32) step (%c256) {
      scf.parallel (%thread) = (%c0) to (%c256) step (%c1) { … } {mapping = [#gpu.loop_dim_map<processor = thread_x, …>]}
    } {mapping = [#gpu.loop_dim_map<processor = block_x, …>]}
    ```
  }];
  let options = [Option<"blockSize", "block-size", "int64_t", "256", "Threads per block">];
  let statistics = [Statistic<"mapped", "ops mapped", "linalg ops that became GPU loops">,
                    Statistic<"kept", "ops kept", "linalg ops that stay on the host">];
  let dependentDialects = ["::mlir::affine::AffineDialect", "::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect",
                           "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect"];
}

def PlaceBuffers : Pass<"lowbit-place-buffers", "::mlir::func::FuncOp"> {
  let summary = "Decides which buffers lie on the device and what the host computes";
  let description = [{
    Kernels take device memory, loads and stores of the host its own. A linalg op whose results the host reads (sizes,
    conditions of loops) is the host's where the host also knows everything that it reads; all others are the device's.
    Allocations become `lowbit_rt.device_alloc` where a kernel writes them; what crosses the border is copied by
    `lowbit_rt.transfer`. A host op on more than a shape's worth of elements, and every place where the host has to wait
    for the device, is a remark. The function gets `lowbit_rt.synchronizes` where there is such a place, and
    `lowbit_rt.host_reads`, the numbers of the inputs whose values the host reads: without either, the launches are the
    same for all inputs of the same shapes, and the runtime replays them.

    Example: of two fills, the one whose result the host loads stays:

    ```mlir
    linalg.fill {lowbit_rt.on_host} ins(%c1 : i64) outs(%size : memref<2xi64>)
    %y = lowbit_rt.device_alloc() : memref<8x64xf32>
    ```
  }];
  let statistics = [
    Statistic<"onDevice", "device buffers", "Allocations that became the device's">,
    Statistic<"onHost", "host ops", "linalg ops that the host computes">,
    Statistic<"transfers", "transfers", "Copies between host and device, or within it">,
    Statistic<"downloads", "downloads", "Places where the host waits for the device">,
    Statistic<"stores", "element stores", "Host stores that became kernels of one thread">,
  ];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect", "::mlir::linalg::LinalgDialect",
                           "::mlir::memref::MemRefDialect", "::mlir::scf::SCFDialect", "::lowbit::rt::LowbitRTDialect"];
}

def ShareKernels : Pass<"lowbit-share-kernels", "::mlir::ModuleOp"> {
  let summary = "Equal kernels become one, each with a name of its own";
  let description = [{
    Outlining makes a kernel of every launch. Afterwards each `gpu.module` holds one kernel with a name of its own (that of its
    node, where there is one), no two kernels are equal, none is unused, and their order in the module is that of their first
    launch: the number of a kernel in a bundle.

    Example: `gpu.launch_func @main_graph_kernel_4::@main_graph_kernel` becomes
    `gpu.launch_func @main_graph_kernel_1::@main_graph_kernel_1` where the two kernels are equal.
  }];
  let statistics = [Statistic<"shared", "kernels shared", "Launches of a kernel that was there already">,
                    Statistic<"kept", "kernels", "Distinct kernels">];
}

def LowerLaunches : Pass<"lowbit-lower-launches", "::mlir::ModuleOp"> {
  let summary = "Launches become calls of the runtime";
  let description = [{
    `gpu.launch_func` and `lowbit_rt.launch` become `lowbit_rt.enqueue` of the kernel's number (see lowbit-share-kernels)
    with its parameters spelled out: a memref is two addresses, an offset, sizes and strides for the former, one address for
    the latter. The device code is dropped: whoever wants it compiles it before.

    Example: `gpu.launch_func @k::@k blocks in (%b, %c1, %c1) threads in (%c256, %c1, %c1) args(%x : memref<4xf32>)` becomes

    ```mlir
    %0 = memref.extract_aligned_pointer_as_index %x : memref<4xf32> -> index
    lowbit_rt.enqueue 0 grid(%b, %c1, %c1) block(%c256, %c1, %c1) shared 0 args(%0, %0, %c0, %c4, %c1 : …)
    ```
  }];
  let statistics = [Statistic<"lowered", "launches", "Launches lowered">];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::memref::MemRefDialect", "::lowbit::rt::LowbitRTDialect"];
}

def LowerDeviceMath : Pass<"lowbit-lower-device-math", "::mlir::gpu::GPUModuleOp"> {
  let summary = "math ops in device code become instructions, not library calls";
  let description = [{
    A GPU has no libm, and the vendor's comes with a toolkit that users need not have. What is one instruction or
    correctly rounded becomes an LLVM intrinsic (`sqrt`, `roundeven`, `fma`, `floor` …); the rest polynomials in f32.

    Example: `math.roundeven %x : f32` becomes `llvm.call_intrinsic "llvm.roundeven.f32"(%x) : (f32) -> f32`.
  }];
  let statistics = [Statistic<"lowered", "ops lowered", "math ops that became intrinsics">];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::LLVM::LLVMDialect", "::mlir::math::MathDialect",
                           "::mlir::vector::VectorDialect"];
}

def EmitCUDA : Pass<"lowbit-emit-cuda", "::mlir::ModuleOp"> {
  let summary = "Writes PTX, cubins or the emulator's shared object of every gpu.module";
  let description = [{
    For a person who looks at one kernel, and for tests: lowers each `gpu.module` and writes into folder `output` the
    files `<kernel>.ptx`, `<kernel>.cubin` or `emulator.so`. Fails where the code would need a library at run time, where ptxas is
    missing, or where the emulator lacks an instruction.

    Example: `--lowbit-emit-cuda="chip=sm_80 format=ptx output=out"`.
  }];
  let options = [
    Option<"chip", "chip", "std::string", "\"sm_80\"", "The GPU: sm_80, sm_86, sm_89, sm_90, sm_90a …">,
    Option<"format", "format", "std::string", "\"ptx\"", "ptx, cubin, llvm or emulator">,
    Option<"output", "output", "std::string", "\".\"", "Folder for the files">,
  ];
  let statistics = [
    Statistic<"emitted", "kernels emitted", "Kernels written">,
    Statistic<"registers", "most registers", "Registers per thread of the largest kernel (cubin only)">,
    Statistic<"spills", "spill bytes", "Bytes that kernels spill to local memory (cubin only)">,
  ];
}
