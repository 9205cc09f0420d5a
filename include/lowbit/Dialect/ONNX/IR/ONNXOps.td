//===- ONNXOps.td - the onnx dialect -----------------------*- tablegen -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LOWBIT_DIALECT_ONNX_IR_ONNXOPS_TD
#define LOWBIT_DIALECT_ONNX_IR_ONNXOPS_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/CommonAttrConstraints.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def ONNX_Dialect : Dialect {
  let name = "onnx";
  let cppNamespace = "::lowbit::onnx";
  let summary = "The model as its file says it";
  let description = [{
    Mirrors ONNX, newest opset only: the importer upgrades older nodes. Op, operand and attribute names are ONNX's; the
    text is compatible with onnx-mlir's where both have the op. An operand that the node leaves out is the result of
    `onnx.NoValue`. Signed integers are signless (`i8`), unsigned ones `ui8`; 4-bit types are `i4` and `ui4`.

    Every op carries the node's name in `onnx_node_name` (nodes without one are called `Op#index`): the key of recipe,
    calibration file and report.
  }];
  let hasConstantMaterializer = 0;
}

class ONNX_Op<string mnemonic, list<Trait> traits = []> : Op<ONNX_Dialect, mnemonic, traits>;

def ONNXNoValueOp : ONNX_Op<"NoValue", [Pure]> {
  let summary = "An optional operand that is left out";
  let arguments = (ins UnitAttr:$value);
  let results = (outs NoneType:$none);
  let builders = [OpBuilder<(ins), [{ build($_builder, $_state, $_builder.getNoneType(), $_builder.getUnitAttr()); }]>];
}

def ONNXConstantOp : ONNX_Op<"Constant", [Pure]> {
  let summary = "A constant tensor";
  let description = [{
    Holds initializers and Constant nodes. Data over 1 KiB is a resource (`dense_resource`), mapped where it can be.
    `onnx_name` keeps the initializer's name: recipes can match it.
  }];
  let arguments = (ins ElementsAttr:$value);
  let results = (outs AnyTensor:$output);
  let builders = [OpBuilder<(ins "::mlir::ElementsAttr":$value),
      [{ build($_builder, $_state, value.getShapedType(), value); }]>];
}

def ONNXCustomOp : ONNX_Op<"Custom", []> {
  let summary = "A node of an operator that has no op class";
  let description = [{
    Domain, name and attributes are kept. Nothing lowers it: a model that still has one when code is generated is
    refused with one error that lists every such node.
  }];
  let arguments = (ins Variadic<AnyType>:$inputs, StrAttr:$function_name, StrAttr:$domain_name);
  let results = (outs Variadic<AnyType>:$outputs);
}

// Control flow: bodies use values of the graphs around them as they are. One block each, which ends in onnx.Yield; what
// a graph calls its inputs are the block's arguments.

def ONNXYieldOp : ONNX_Op<"Yield", [Pure, Terminator, ReturnLike]> {
  let summary = "The outputs of a graph inside a node";
  let arguments = (ins Variadic<AnyType>:$outputs);
}

class ONNX_BodyOp<string mnemonic> : ONNX_Op<mnemonic, [RecursiveMemoryEffects, SingleBlock]> {
  let hasVerifier = 1;
}

def ONNXIfOp : ONNX_BodyOp<"If"> {
  let summary = "One of two graphs, chosen by a condition";
  let description = [{
    ```mlir
    %y = "onnx.If"(%condition) ({ "onnx.Yield"(%a) : (tensor<2xf32>) -> () }, { "onnx.Yield"(%b) : (tensor<3xf32>) -> () })
        {onnx_node_name = "choose"} : (tensor<i1>) -> tensor<?xf32>
    ```
  }];
  let arguments = (ins AnyType:$cond);
  let results = (outs Variadic<AnyType>:$outputs);
  let regions = (region SizedRegion<1>:$then_branch, SizedRegion<1>:$else_branch);
}

def ONNXLoopOp : ONNX_BodyOp<"Loop"> {
  let summary = "Repeats a graph up to M times while a condition holds";
  let description = [{
    The body takes the iteration's number, the condition and the carried values; it yields the next condition, the next
    carried values and the elements of the scan outputs. The results are the last carried values and the scan outputs.
  }];
  let arguments = (ins AnyType:$M, AnyType:$cond, Variadic<AnyType>:$v_initial);
  let results = (outs Variadic<AnyType>:$v_final_and_scan_outputs);
  let regions = (region SizedRegion<1>:$body);
}

def ONNXScanOp : ONNX_BodyOp<"Scan"> {
  let summary = "Repeats a graph over the slices of its last num_scan_inputs operands";
  let description = [{
    The body takes the states and one slice of every scan input; it yields the next states and the elements of the scan
    outputs. The results are the last states and the scan outputs.
  }];
  let arguments = (ins Variadic<AnyType>:$initial_state_and_scan_inputs, SI64Attr:$num_scan_inputs,
                       OptionalAttr<I64ArrayAttr>:$scan_input_axes, OptionalAttr<I64ArrayAttr>:$scan_input_directions,
                       OptionalAttr<I64ArrayAttr>:$scan_output_axes, OptionalAttr<I64ArrayAttr>:$scan_output_directions);
  let results = (outs Variadic<AnyType>:$final_state_and_scan_outputs);
  let regions = (region SizedRegion<1>:$body);
}

include "lowbit/Dialect/ONNX/IR/ONNXGeneratedOps.td"

#endif // LOWBIT_DIALECT_ONNX_IR_ONNXOPS_TD
