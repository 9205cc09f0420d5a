//===- Passes.td - passes of lib/Target/LLVM ---------------*- tablegen -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
// Host code that every target needs: weights, runtime calls, the model's entry points.

include "mlir/Pass/PassBase.td"

def PlaceWeights : Pass<"lowbit-place-weights", "::mlir::ModuleOp"> {
  let summary = "Gives every constant buffer its place in the weights file";
  let description = [{
    Constant `memref.global`s, in the order of the module, get `lowbit_rt.offset`, a multiple of 64; equal types and bytes
    share one place. Each `memref.get_global` of one becomes a `lowbit_rt.weight`. Driver writes the file from the globals
    and drops them.

    ```mlir
    memref.global "private" constant @w : memref<2xf32> = dense<[1.0, 2.0]>
    %0 = memref.get_global @w : memref<2xf32>
    // becomes
    memref.global "private" constant @w : memref<2xf32> = dense<[1.0, 2.0]> {lowbit_rt.offset = 0 : i64}
    %0 = lowbit_rt.weight 0 : memref<2xf32>
    ```
  }];
  let dependentDialects = ["::lowbit::rt::LowbitRTDialect"];
  let statistics = [Statistic<"numBytes", "num-bytes", "Bytes of weights, padding included">,
                    Statistic<"numShared", "num-shared", "Constants that share the place of an equal one">];
}

def ExpandCopies : Pass<"lowbit-expand-copies", "::mlir::ModuleOp"> {
  let summary = "Copies between strided buffers become loops";
  let description = [{
    A `memref.copy` that is not one contiguous block would call a library that a bundle does not have; it becomes a
    `linalg.generic`. Contiguous ones stay: they are a memcpy.

    ```mlir
    memref.copy %a, %b : memref<4x4xf32, strided<[8, 1]>> to memref<4x4xf32>   // linalg.generic
    memref.copy %c, %d : memref<4x4xf32> to memref<4x4xf32>                    // stays
    ```
  }];
  let dependentDialects = ["::mlir::linalg::LinalgDialect"];
  let statistics = [Statistic<"numExpanded", "num-expanded", "Strided copies that became loops">];
}

def ExpandReshapes : Pass<"lowbit-expand-reshapes", "::mlir::ModuleOp"> {
  let summary = "Views that split a dim into several of unknown size";
  let description = [{
    Upstream's lowering of `memref.expand_shape` takes one dynamic size for each dim that is split, although the op itself
    carries all sizes. Where there are more, strides are multiplied out here.

    ```mlir
    %1 = memref.expand_shape %0 [[0, 1], [2]] output_shape [%b, %s, 64] : memref<?x64xf32> into memref<?x?x64xf32>
    // becomes
    %base, %offset, %sizes:2, %strides:2 = memref.extract_strided_metadata %0 : memref<?x64xf32> -> …
    %row = arith.muli %c64, %s : index
    %1 = memref.reinterpret_cast %base to offset: [0], sizes: [%b, %s, 64], strides: [%row, 64, 1] : …
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::memref::MemRefDialect"];
  let statistics = [Statistic<"numExpanded", "num-expanded", "Views that were made explicit">];
}

def ExpandSmallFloats : Pass<"lowbit-expand-small-floats", "::mlir::ModuleOp"> {
  let summary = "Half and bfloat16 arithmetic without a compiler's runtime library";
  let description = [{
    x86-64-v3 converts between f32 and f16, and nothing else of 16 bits: LLVM would call `__truncsfbf2` and
    `__truncdfhf2`, which a bundle does not have. bf16 arithmetic happens in f32 with a rounding after each op; f32 to bf16
    is integer arithmetic; f64 to either goes through an f32 rounded to odd, so that the result is rounded once.

    ```mlir
    %0 = arith.addf %a, %b : bf16      // extf, extf, addf : f32, rounding by integer arithmetic
    %1 = arith.truncf %c : f64 to f16  // the f64 cut to 24 bits with a sticky last bit, then truncf twice
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect"];
  let statistics = [Statistic<"numNarrowed", "num-narrowed", "Conversions from f64">];
}

def OutlineLoops : Pass<"lowbit-outline-loops", "::mlir::ModuleOp"> {
  let summary = "Every loop nest becomes a function; equal ones share it";
  let description = [{
    After bufferization: each linalg op of @main_graph moves to a private function with what it reads from outside as
    arguments. LLVM's time for one function grows faster than the function; a model of several hundred nodes would take
    minutes. Layers of equal shapes share code. `lowbit_rt.noalias` notes which pointers reach
    memory of their own; `lowbit-add-model-abi` makes them `llvm.noalias`.

    ```mlir
    linalg.generic … ins(%a : memref<?x4xf32>) outs(%b : memref<?x4xf32>)
    // becomes
    func.call @loops(%a, %b) : (memref<?x4xf32>, memref<?x4xf32>) -> ()
    ```
  }];
  let dependentDialects = ["::mlir::func::FuncDialect"];
  let statistics = [Statistic<"numOutlined", "num-outlined", "Loop nests that became calls">,
                    Statistic<"numFunctions", "num-functions", "Functions made for them">];
}

def ConvertRTToLLVM : Pass<"lowbit-convert-rt-to-llvm", "::mlir::ModuleOp"> {
  let summary = "Runtime ops become calls through the callback table";
  let description = [{
    `lowbit_rt.parallel`, `weight`, `isa`, `observe` and `assert` become loads of the model's three globals (callback table,
    weights, variant) and indirect calls, per `include/lowbit-c/Model.h`.

    ```mlir
    lowbit_rt.parallel @body[%tasks](%x) : memref<?xf32>
    // packs %x into a struct on the stack and calls table->parallel_for(tasks, @body.task, struct)
    ```
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
  let statistics = [Statistic<"numCalls", "num-calls", "Calls of the runtime">];
}

def AddModelABI : Pass<"lowbit-add-model-abi", "::mlir::ModuleOp"> {
  let summary = "Adds the three entry points of a model";
  let description = [{
    After the conversion to the LLVM dialect: `lowbit_model_abi`, `lowbit_model_init`, `lowbit_model_run` around the C wrapper of
    @main_graph, and the allocation functions that memref's lowering calls, all per `include/lowbit-c/Model.h`.

    ```mlir
    llvm.func @lowbit_model_run(%inputs: !llvm.ptr, %results: !llvm.ptr)   // calls @_mlir_ciface_main_graph
    ```
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
  let statistics = [Statistic<"numInputs", "num-inputs", "Inputs of the model">];
}

def PrepareEntry : Pass<"lowbit-prepare-entry", "::mlir::ModuleOp"> {
  let summary = "Marks @main_graph as the model's entry point";
  let description = [{
    Before bufferization: the function gets a C wrapper, its arguments are read-only (they are the caller's memory), ONNX's
    names go (the manifest has them), and the module remembers how many inputs there are.

    ```mlir
    func.func @main_graph(%x: tensor<4xf32> {bufferization.writable = false}) -> tensor<4xf32> attributes {llvm.emit_c_interface}
    ```
  }];
  let statistics = [Statistic<"numArguments", "num-arguments", "Read-only arguments">];
}

def SeparateBuffers : Pass<"lowbit-separate-buffers", "::mlir::func::FuncOp"> {
  let summary = "Results of one shape do not share a buffer where runs wait";
  let description = [{
    Before bufferization. CSE makes one `tensor.empty` of all that have the same type, and then one buffer serves every op
    that writes to one of them: it lives from the first to the last. A function with `lowbit_rt.exchange` may wait there
    for many other runs of itself, each of which would hold such buffers (packed weights, above all) for nothing, so
    every use gets a `tensor.empty` of its own. Other functions stay as they are.

    ```mlir
    %e = tensor.empty() : tensor<4xf32>
    %a = linalg.exp ins(%x) outs(%e)
    %b = lowbit_rt.exchange(%a) id(0) : (tensor<4xf32>) -> tensor<4xf32>
    %f = tensor.empty() : tensor<4xf32>   // was %e
    %c = linalg.exp ins(%b) outs(%f)
    ```
  }];
  let dependentDialects = ["::mlir::tensor::TensorDialect"];
  let statistics = [Statistic<"numSeparated", "num-separated", "Uses that got a buffer of their own">];
}
