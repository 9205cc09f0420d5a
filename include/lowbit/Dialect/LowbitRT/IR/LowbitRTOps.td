//===- LowbitRTOps.td - the lowbit_rt dialect --------------*- tablegen -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LOWBIT_DIALECT_LOWBITRT_IR_LOWBITRTOPS_TD
#define LOWBIT_DIALECT_LOWBITRT_IR_LOWBITRTOPS_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/CommonAttrConstraints.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/DestinationStyleOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def LowbitRT_Dialect : Dialect {
  let name = "lowbit_rt";
  let cppNamespace = "::lowbit::rt";
  let summary = "Scheduled kernels and calls of the runtime";
  let description = [{
    The exit dialect: kernels with their generator and schedule, their launches, and one op per entry of the callback
    table in `include/lowbit-c/Model.h`.
  }];
}

class LowbitRT_Op<string mnemonic, list<Trait> traits = []> : Op<LowbitRT_Dialect, mnemonic, traits>;

def LowbitRT_KernelOp : LowbitRT_Op<"kernel", [Symbol]> {
  let summary = "A kernel that a target's generator will build";
  let description = [{
    `generator` names the family (`cpu.qgemm`), `schedule` holds everything the generator needs beside the types:
    tile sizes, strides, activation. Two layers of the same shapes and schedule share one kernel.

    ```mlir
    lowbit_rt.kernel @qgemm_0 generator("cpu.qgemm") schedule({k = 64 : i64, n = 64 : i64})
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$generator, DictionaryAttr:$schedule);
  let assemblyFormat = "$sym_name `generator` `(` $generator `)` `schedule` `(` $schedule `)` attr-dict";
}

def LowbitRT_LaunchOp : LowbitRT_Op<"launch", [AttrSizedOperandSegments, DestinationStyleOpInterface,
    DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "Runs a kernel";
  let description = [{
    Destination-passing: reads `inputs`, writes all of `outputs`. On tensors the results are the outputs' new values; after
    bufferization every operand is a row-major memref and there are no results.

    ```mlir
    %y = lowbit_rt.launch @qgemm_0 ins(%x, %w : tensor<8x64xui8>, tensor<4096xi8>) outs(%init : tensor<8x64xf32>) {layer = "fc"} -> tensor<8x64xf32>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$kernel, Variadic<AnyShaped>:$inputs, Variadic<AnyShaped>:$outputs,
                       DefaultValuedStrAttr<StrAttr, "">:$layer);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    $kernel `ins` `(` $inputs `:` type($inputs) `)` `outs` `(` $outputs `:` type($outputs) `)` attr-dict (`->` type($results)^)?
  }];
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() { return getOutputsMutable(); }
  }];
}

def LowbitRT_ParallelOp : LowbitRT_Op<"parallel"> {
  let summary = "Calls body(begin, end, args…) until every task in [0, tasks) is done";
  let description = [{
    The tasks may be split in any way over any threads; `body` is a function of two `index` and the types of `args`.

    ```mlir
    lowbit_rt.parallel @body[%tasks](%x, %y) : memref<?x64xi8>, memref<?x64xf32>
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$body, Index:$tasks, Variadic<AnyType>:$args);
  let assemblyFormat = "$body `[` $tasks `]` `(` $args `)` attr-dict (`:` type($args)^)?";
}

def LowbitRT_ISAOp : LowbitRT_Op<"isa", [Pure]> {
  let summary = "Index of the kernel variant in use, into the module's `lowbit_rt.isa` list";
  let results = (outs I64:$isa);
  let assemblyFormat = "attr-dict";
}

def LowbitRT_WeightOp : LowbitRT_Op<"weight", [Pure]> {
  let summary = "A constant in the mapped weights file";
  let description = [{ `offset` bytes from the start of the data section of weights.safetensors; a multiple of 64. }];
  let arguments = (ins I64Attr:$offset);
  let results = (outs AnyMemRef:$memref);
  let assemblyFormat = "$offset attr-dict `:` type($memref)";
}

def LowbitRT_ObserveOp : LowbitRT_Op<"observe", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "Hands a row-major f32 buffer to the calibration observer";
  let arguments = (ins AnyShaped:$input, I64Attr:$id);
  let assemblyFormat = "$input `id` `(` $id `)` attr-dict `:` type($input)";
}

def LowbitRT_ExchangeOp : LowbitRT_Op<"exchange", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "Hands a row-major f32 buffer to whoever runs the program, who may change it";
  let description = [{
    On tensors the result is a new buffer with the contents of `input`, or undefined ones without it, after the call; after
    bufferization `input` is that buffer and there is no result.
  }];
  let arguments = (ins Optional<AnyShaped>:$input, I64Attr:$id);
  let results = (outs Optional<AnyRankedTensor>:$output);
  let assemblyFormat = "`(` $input `)` `id` `(` $id `)` attr-dict `:` functional-type(operands, results)";
}

def LowbitRT_DeviceAllocOp : LowbitRT_Op<"device_alloc"> {
  let summary = "A buffer in the memory of the run's device";
  let description = [{
    Row-major. Only kernels and `transfer` may reach its elements; the host knows no more than its address.

    ```mlir
    %y = lowbit_rt.device_alloc(%rows) : memref<?x64xf32>
    ```
  }];
  let arguments = (ins Variadic<Index>:$sizes);
  let results = (outs Res<AnyMemRef, "", [MemAlloc]>:$memref);
  let assemblyFormat = "`(` $sizes `)` attr-dict `:` type($memref)";
}

def LowbitRT_DeviceFreeOp : LowbitRT_Op<"device_free"> {
  let summary = "Frees a buffer of device_alloc once all that was enqueued before is done";
  let arguments = (ins Arg<AnyMemRef, "", [MemFree]>:$memref);
  let assemblyFormat = "$memref attr-dict `:` type($memref)";
}

def LowbitRT_TransferOp : LowbitRT_Op<"transfer"> {
  let summary = "Copies a contiguous buffer between host and device, or within the device";
  let description = [{
    Takes its turn among the enqueued kernels. Where `to` is the host's the run waits for it: the values are there when the
    op is done.
  }];
  let arguments = (ins Arg<AnyMemRef, "", [MemRead]>:$from, Arg<AnyMemRef, "", [MemWrite]>:$to);
  let assemblyFormat = "$from `to` $to attr-dict `:` type($from) `,` type($to)";
}

def LowbitRT_EnqueueOp : LowbitRT_Op<"enqueue", [AttrSizedOperandSegments, MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "Enqueues a kernel on the run's device";
  let description = [{
    `kernel` is an index into the manifest's list of kernels; `grid` are the blocks and `block` the threads of a block along
    x, y and z; `shared` the bytes of dynamic shared memory. `args` are the kernel's parameters: numbers, and addresses
    (as `index`) where the manifest says `p`. A grid without blocks does nothing.

    ```mlir
    lowbit_rt.enqueue 3 grid(%x, %y, %z) block(%c256, %c1, %c1) shared 0 args(%address, %rows : index, i32)
    ```
  }];
  let arguments = (ins I64Attr:$kernel, Variadic<Index>:$grid, Variadic<Index>:$block, I64Attr:$shared, Variadic<AnyType>:$args);
  let assemblyFormat = [{
    $kernel `grid` `(` $grid `)` `block` `(` $block `)` `shared` $shared `args` `(` ($args^ `:` type($args))? `)` attr-dict
  }];
}

// Writes the run's status: never removed, and no buffer depends on it.
def LowbitRT_AssertOp : LowbitRT_Op<"assert", [MemoryEffects<[MemWrite]>]> {
  let summary = "Makes the run fail with `message` where `condition` is false";
  let description = [{ The runtime unwinds the run there, and the caller gets the message. }];
  let arguments = (ins I1:$condition, StrAttr:$message);
  let assemblyFormat = "$condition `,` $message attr-dict";
}

#endif // LOWBIT_DIALECT_LOWBITRT_IR_LOWBITRTOPS_TD
