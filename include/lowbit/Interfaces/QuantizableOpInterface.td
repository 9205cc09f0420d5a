//===- QuantizableOpInterface.td - ops that have weights ---*- tablegen -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LOWBIT_INTERFACES_QUANTIZABLEOPINTERFACE_TD
#define LOWBIT_INTERFACES_QUANTIZABLEOPINTERFACE_TD

include "mlir/IR/OpBase.td"

def QuantizableOpInterface : OpInterface<"QuantizableOpInterface"> {
  let cppNamespace = "::lowbit";
  let description = [{
    An op that multiplies activations with weights, or looks rows up in a table: what the quantization passes work on.
    It says which operand is what and along which axes; whether the weights are constant is the passes' question.
  }];
  let methods = [
    InterfaceMethod<[{
      The op as a quantizable layer. Nothing where this instance cannot become a lowbit.linear, conv or gather, with the
      reason for reports in `whyNot` ("its weights have rank 3, expected 2").
    }], "::std::optional<::lowbit::QuantizableLayer>", "getQuantizableLayer", (ins "::std::string &":$whyNot)>,
    InterfaceMethod<[{
      Called when the factors of the layer (weightFactor, biasFactor) have been multiplied into new constants: sets them
      to 1.
    }], "void", "clearFactors", (ins), "", [{ (void)$_op; }]>,
  ];
}

#endif // LOWBIT_INTERFACES_QUANTIZABLEOPINTERFACE_TD
