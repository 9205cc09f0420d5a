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

def ScheduleCPUContractions : Pass<"lowbit-schedule-cpu-contractions", "::mlir::ModuleOp"> {
  let summary = "f32 products and convolutions become launches of CPU kernels";
  let description = [{
    Takes every `linalg.generic` on f32 tensors that adds up products: products of matrices (with any number of batch dims, either operand
    transposed), whose result is ordered batch, rows, columns, and two-dimensional convolutions with channels last. The second operand is packed
    for the kernel: now where it is a constant, else by a kernel as soon as it is computed. Sums that start from one number per column start from
    it in the kernel. What else adds up products stays a loop nest.

    ```mlir
    %y = linalg.generic … ins(%x, %w : tensor<?x64xf32>, tensor<64x48xf32>) outs(%zero : tensor<?x48xf32>) { mulf, addf }
    // becomes
    lowbit_rt.kernel @fgemm_0 generator("cpu.fgemm") schedule({…})
    %y3 = lowbit_rt.launch @fgemm_0 ins(%x3, %packed : tensor<1x?x64xf32>, tensor<4096xf32>) outs(%init : tensor<1x?x48xf32>) -> tensor<1x?x48xf32>
    ```
  }];
  let dependentDialects = ["::lowbit::rt::LowbitRTDialect", "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect",
                           "::mlir::arith::ArithDialect"];
  let statistics = [Statistic<"numScheduled", "num-scheduled", "Products and convolutions with a kernel">,
                    Statistic<"numLeft", "num-left", "Sums of products left to loops">];
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
