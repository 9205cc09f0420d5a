//===- Passes.td - passes of lib/Target/CPU ----------------*- tablegen -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

include "mlir/Pass/PassBase.td"

def ScheduleCPU : Pass<"lowbit-schedule-cpu", "::mlir::ModuleOp"> {
  let summary = "Pivot ops become launches of CPU kernels on packed weights";
  let description = [{
    Picks for each `lowbit.linear` and `lowbit.conv` a kernel family and its tile, packs the weights for it, folds the
    input's zero point into the bias, and replaces the op by a `lowbit_rt.launch`; convolutions go to NHWC. Equal
    shapes and tiles share one `lowbit_rt.kernel`. An op no family covers stays, with a remark that says why:
    `lowbit-to-linalg` decomposes it.

    ```mlir
    %y = lowbit.linear %x, %w scale(%ws) input_scale(%xs) input_zero(%xz) : … -> tensor<8x10xf32>
    // becomes
    lowbit_rt.kernel @qgemm_0 generator("cpu.qgemm") schedule({…})
    %y = lowbit_rt.launch @qgemm_0 ins(%x, %packed, %bias, %multiplier : …) outs(%init : tensor<8x10xf32>) -> tensor<8x10xf32>
    ```
  }];
  let dependentDialects = ["::lowbit::rt::LowbitRTDialect", "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect",
                           "::mlir::arith::ArithDialect"];
  let statistics = [Statistic<"numScheduled", "num-scheduled", "Ops with a kernel">,
                    Statistic<"numLeft", "num-left", "Quantized ops left to their decomposition">];
}

def GenerateCPUKernels : Pass<"lowbit-generate-cpu-kernels", "::mlir::ModuleOp"> {
  let summary = "Builds the code of the CPU kernels";
  let description = [{
    After bufferization: each `lowbit_rt.kernel` becomes a function per instruction-set variant in `isa` and a wrapper that picks
    one at run time and hands its tasks to the runtime; each `lowbit_rt.launch` becomes a call of the wrapper.

    ```mlir
    func.func private @qgemm_0(%x: memref<8x64xi8>, …) { … lowbit_rt.parallel @qgemm_0.avx2[%tasks](…) … }
    ```
  }];
  let options = [ListOption<"isa", "isa", "std::string", "Kernel variants, least first: avx2, avx512vnni">];
  let dependentDialects = ["::lowbit::rt::LowbitRTDialect", "::mlir::func::FuncDialect", "::mlir::scf::SCFDialect",
                           "::mlir::vector::VectorDialect", "::mlir::memref::MemRefDialect", "::mlir::arith::ArithDialect",
                           "::mlir::math::MathDialect", "::mlir::LLVM::LLVMDialect"];
  let statistics = [Statistic<"numKernels", "num-kernels", "Distinct kernels built">];
}
