//===- LowbitOps.td - the lowbit dialect -------------------*- tablegen -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef LOWBIT_DIALECT_LOWBIT_IR_LOWBITOPS_TD
#define LOWBIT_DIALECT_LOWBIT_IR_LOWBITOPS_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/IR/CommonAttrConstraints.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Lowbit_Dialect : Dialect {
  let name = "lowbit";
  let cppNamespace = "::lowbit";
  let summary = "The pivot: what a quantized model means, on any target";
  let description = [{
    The op says the mathematics, the element types say the precision: signed integers are signless (`i8`, `i4`), unsigned
    ones `ui8`, `ui4`. Scales and zero points are operands, never part of a type. The value of a stored integer q is
    `(q - zero) * scale`.

    Three granularities, told apart by the shape of `scale` (`zero` has the same shape):
    - per tensor: rank 0;
    - per channel: rank 1, one entry per index of the channel axis;
    - grouped: one entry per channel and per `group` consecutive elements along the reduction axis; the last group may be
      partial.

    Each op has a decomposition into linalg and arith (`lowbit-to-linalg`): its specification, its fallback on every
    target, and the oracle of its tests. Given the same integer inputs every implementation of an integer op gives the
    same bits: 32-bit wrapping accumulation, + bias, one conversion to f32 (nearest even), one f32 multiplication by
    `f32(f64(input_scale) * weight_scale / output_scale)`, round half to even, + zero point, saturate.
  }];
  let useDefaultAttributePrinterParser = 1;
}

class Lowbit_Op<string mnemonic, list<Trait> traits = []> : Op<Lowbit_Dialect, mnemonic, traits>;

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

def Lowbit_StatsAttr : AttrDef<Lowbit_Dialect, "Stats"> {
  let mnemonic = "stats";
  let summary = "What calibration saw of one value";
  let description = [{
    `#lowbit.stats<min = -1.0 : f32, max = 2.5 : f32>`: the smallest and the largest value seen. Passes that decide read
    statistics only from this attribute, so a person can write it in a test. What else may be known:

    - `average_min`, `average_max`: the means of the samples' smallest and largest values;
    - `histogram`, tensor<Nx3xf64>: rows [lo, hi, count] in ascending order, without overlap; a row with lo = hi = 0 counts
      exact zeros;
    - `channel_min`, `channel_max`, `channel_mean`, `channel_absmean`, tensor<Cxf32>: of each channel, that is of each
      index of the observer's channel axis; `channel_absmean` is the mean of |x|;
    - `channel_histogram`, tensor<Nx4xf64>: rows [channel, lo, hi, count]; what the histogram becomes where a transform
      scales channels;
    - `moments`, tensor<KxKxf32> or, of a convolution with G groups, tensor<GxKxKxf32>: E[x xᵀ] where x are the values
      that a row of the weight matrix [channels, K] is multiplied with; of a convolution K runs over the flattened
      C / G × kernel elements of a filter.

    Tensors are dense constants or resources.

    ```mlir
    #lowbit.stats<min = -1.0 : f32, max = 2.5 : f32, channel_absmean = dense<[0.5, 0.25]> : tensor<2xf32>>
    ```
  }];
  let parameters = (ins "::mlir::FloatAttr":$min, "::mlir::FloatAttr":$max,
                        OptionalParameter<"::mlir::FloatAttr">:$average_min,
                        OptionalParameter<"::mlir::FloatAttr">:$average_max,
                        OptionalParameter<"::mlir::ElementsAttr">:$histogram,
                        OptionalParameter<"::mlir::ElementsAttr">:$channel_min,
                        OptionalParameter<"::mlir::ElementsAttr">:$channel_max,
                        OptionalParameter<"::mlir::ElementsAttr">:$channel_mean,
                        OptionalParameter<"::mlir::ElementsAttr">:$channel_absmean,
                        OptionalParameter<"::mlir::ElementsAttr">:$channel_histogram,
                        OptionalParameter<"::mlir::ElementsAttr">:$moments);
  let assemblyFormat = "`<` struct(params) `>`";
  let builders = [AttrBuilder<(ins "::mlir::FloatAttr":$min, "::mlir::FloatAttr":$max), [{
    return $_get($_ctxt, min, max, ::mlir::FloatAttr(), ::mlir::FloatAttr(), ::mlir::ElementsAttr(),
                 ::mlir::ElementsAttr(), ::mlir::ElementsAttr(), ::mlir::ElementsAttr(), ::mlir::ElementsAttr(),
                 ::mlir::ElementsAttr(), ::mlir::ElementsAttr());
  }]>];
  let genVerifyDecl = 1;
}

//===----------------------------------------------------------------------===//
// Entering and leaving the integers
//===----------------------------------------------------------------------===//

def FloatTensor : TensorOf<[AnyFloat]>;
def ScaleTensor : TensorOf<[F32]>;
def IntTensor : TensorOf<[AnyInteger]>;
def WeightTensor : TensorOf<[AnyInteger, F16]>;

def Lowbit_QuantizeOp : Lowbit_Op<"quantize", [Pure]> {
  let summary = "f32 to integers: saturate(round_half_even(x / scale) + zero)";
  let description = [{
    ONNX QuantizeLinear: divides, rounds half to even, adds the zero point after rounding, saturates to the range of the
    result's element type. `axis` is the channel axis (rank-1 scale) or the grouped axis (scale of the input's rank, with
    `group`).

    ```mlir
    %q = lowbit.quantize %x scale(%s) zero(%z)
       : (tensor<?x64xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x64xui8>
    ```
  }];
  let arguments = (ins FloatTensor:$input, ScaleTensor:$scale, IntTensor:$zero,
                       OptionalAttr<I64Attr>:$axis, DefaultValuedAttr<I64Attr, "0">:$group);
  let results = (outs IntTensor:$output);
  let assemblyFormat = [{
    $input `scale` `(` $scale `)` `zero` `(` $zero `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Lowbit_DequantizeOp : Lowbit_Op<"dequantize", [Pure]> {
  let summary = "Integers to f32: (q - zero) * scale";
  let description = [{
    ONNX DequantizeLinear; the subtraction is exact. `axis` and `group` as in `lowbit.quantize`.

    ```mlir
    %w = lowbit.dequantize %q scale(%s) zero(%z) {axis = 0 : i64, group = 32 : i64}
       : (tensor<64x172xui4>, tensor<2x172xf32>, tensor<2x172xui4>) -> tensor<64x172xf32>
    ```
  }];
  let arguments = (ins IntTensor:$input, ScaleTensor:$scale, IntTensor:$zero,
                       OptionalAttr<I64Attr>:$axis, DefaultValuedAttr<I64Attr, "0">:$group);
  let results = (outs FloatTensor:$output);
  let assemblyFormat = [{
    $input `scale` `(` $scale `)` `zero` `(` $zero `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Lowbit_DynamicQuantizeOp : Lowbit_Op<"dynamic_quantize", [Pure]> {
  let summary = "f32 to integers, with the range that the values have when the model runs";
  let description = [{
    ONNX DynamicQuantizeLinear of the whole tensor or, with `per_token`, of each row along the last dimension by itself, for
    any type of at most 16 bits. In f32, of the values and 0, with lo and hi the smallest and the largest (NaN is ignored) and
    [min, max] the range of the type:

        scale = (hi - lo) / (max - min), or 1 where that is 0
        zero  = round_half_even(clamp(min - lo / scale, min, max))
        q     = lowbit.quantize of x with them

    `symmetric`: scale = max(-lo, hi) / (2^(bits-1) - 1), or 1 where that is 0; zero = 0, 2^(bits-1) of unsigned types.
    `scale` and `zero` have rank 0; with `per_token` the shape of the input, 1 for the last dimension, as `lowbit.dequantize`
    takes them with `axis` the last one and `group` its extent.

    ```mlir
    %q, %s, %z = lowbit.dynamic_quantize %x {per_token} : tensor<?x64xf32> -> tensor<?x64xui8>, tensor<?x1xf32>, tensor<?x1xui8>
    ```
  }];
  let arguments = (ins TensorOf<[F32]>:$input, UnitAttr:$per_token, UnitAttr:$symmetric);
  let results = (outs IntTensor:$output, ScaleTensor:$scale, IntTensor:$zero);
  let assemblyFormat = [{
    $input attr-dict `:` type($input) `->` type($output) `,` type($scale) `,` type($zero)
  }];
  let hasVerifier = 1;
}

def Lowbit_ObserveOp : Lowbit_Op<"observe"> {
  let summary = "Watches a float value during calibration";
  let description = [{
    `name` is the key in the calibration file: the layer's name, a colon, and the operand's role. When the model runs, the
    value is measured; `lowbit-load-calibration` writes what was seen into `stats`; `lowbit-apply-recipe` reads it and
    erases the op. `channel_axis` counts channels (of a convolution's input 1); without it the last axis does.

    ```mlir
    lowbit.observe %x "conv1:input" {stats = #lowbit.stats<min = -1.0 : f32, max = 2.5 : f32>} : tensor<?x3x32x32xf32>
    ```
  }];
  let arguments = (ins FloatTensor:$input, StrAttr:$name, OptionalAttr<Lowbit_StatsAttr>:$stats,
                       OptionalAttr<I64Attr>:$channel_axis);
  let assemblyFormat = "$input $name attr-dict `:` type($input)";
  let builders = [OpBuilder<(ins "::mlir::Value":$input, "::mlir::StringAttr":$name), [{
    build($_builder, $_state, input, name, StatsAttr(), ::mlir::IntegerAttr());
  }]>];
  let hasVerifier = 1;
}

def Lowbit_ExchangeOp : Lowbit_Op<"exchange", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "A float value that whoever runs the program may change";
  let description = [{
    The result is a copy of `input` after the caller of the program has seen and perhaps changed it; without `input` it is
    what the caller supplies (the type is static). `role` is `input`, `weight` or `output` of `layer`. Sequential
    quantization (`lowbit-insert-exchanges`) runs a model through these points, layer by layer; they are in no bundle that
    is kept.

    ```mlir
    %x1 = lowbit.exchange "fc" "input"(%x) : (tensor<?x64xf32>) -> tensor<?x64xf32>
    %w1 = lowbit.exchange "fc" "weight"() : () -> tensor<64x172xf32>
    ```
  }];
  let arguments = (ins StrAttr:$layer, StrAttr:$role, Optional<FloatTensor>:$input);
  let results = (outs FloatTensor:$output);
  let assemblyFormat = "$layer $role `(` $input `)` attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Quantized operators
//===----------------------------------------------------------------------===//

// Operands that linear and conv share. Three modes:
//   integer: an 8-bit integer input with input_scale and input_zero of rank 0; symmetric weights per tensor or per channel
//     (no weight_zero); bias is i32 with scale input_scale * weight_scale and zero point 0; with output_scale and
//     output_zero (rank 0) the result is an integer tensor of output_zero's element type, else f32;
//   integer sums in float: an integer input as well, and any of the following, which tells it from the first mode: input_scale
//     and input_zero per row (linear: the input's shape, 1 for the last dimension), weights with group (linear) or weight_zero,
//     a f32 bias, or an input of 16 bits. The result is f32: (sum over groups of f32(acc) * weight_scale) * input_scale + bias;
//   weight-only: a float input; weights of any integer type and granularity, or f16 with one weight_scale; bias is f32; the
//     result is f32.
defvar quantizedOperands = (ins AnyTensor:$input, WeightTensor:$weight, ScaleTensor:$weight_scale,
    Optional<IntTensor>:$weight_zero, Optional<AnyTensor>:$bias, Optional<ScaleTensor>:$input_scale,
    Optional<IntTensor>:$input_zero, Optional<ScaleTensor>:$output_scale, Optional<IntTensor>:$output_zero);

defvar quantizedFormat = [{
    $input `,` $weight `scale` `(` $weight_scale `)` (`zero` `(` $weight_zero^ `)`)? (`bias` `(` $bias^ `)`)?
    (`input_scale` `(` $input_scale^ `)`)? (`input_zero` `(` $input_zero^ `)`)?
    (`output_scale` `(` $output_scale^ `)`)? (`output_zero` `(` $output_zero^ `)`)?
    attr-dict `:` functional-type(operands, results)
}];

def Lowbit_LinearOp : Lowbit_Op<"linear", [Pure, AttrSizedOperandSegments]> {
  let summary = "y = activation(x Wᵀ + b) on quantized weights";
  let description = [{
    `input` [..., K], `weight` [N, K], result [..., N]. `weight_scale` is [] or [N] or, with `group`, [N, ceil(K / group)].
    `relu` clamps the real result at 0. `layer` is the ONNX node's name.
  }];
  let arguments = !con(quantizedOperands,
      (ins DefaultValuedAttr<I64Attr, "0">:$group, UnitAttr:$relu, DefaultValuedStrAttr<StrAttr, "">:$layer));
  let results = (outs AnyTensor:$output);
  let assemblyFormat = quantizedFormat;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The mode of integer sums in float: an integer input whose result is not one multiplication of the accumulator.
    bool sumsInFloat();
  }];
}

def Lowbit_ConvOp : Lowbit_Op<"conv", [Pure, AttrSizedOperandSegments]> {
  let summary = "Convolution on quantized weights";
  let description = [{
    `input` [N, C, spatial…], `weight` [F, C / groups, spatial…], result [N, F, spatial…]; padding stands for the real value
    0, that is for `input_zero`. `weight_scale` is [] or [F] or, with `group`, [F, ceil(K / group)] where K runs over the
    flattened C / groups × kernel elements of one filter. `pads` are all begins, then all ends.
  }];
  let arguments = !con(quantizedOperands,
      (ins DenseI64ArrayAttr:$strides, DenseI64ArrayAttr:$pads, DenseI64ArrayAttr:$dilations,
           DefaultValuedAttr<I64Attr, "1">:$groups, DefaultValuedAttr<I64Attr, "0">:$group, UnitAttr:$relu,
           DefaultValuedStrAttr<StrAttr, "">:$layer));
  let results = (outs AnyTensor:$output);
  let assemblyFormat = quantizedFormat;
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The mode of integer sums in float: an integer input whose result is not one multiplication of the accumulator.
    bool sumsInFloat();
  }];
}

def Lowbit_GatherOp : Lowbit_Op<"gather", [Pure]> {
  let summary = "Rows of a quantized table, as f32: an embedding";
  let description = [{
    `weight` [V, D], `indices` any shape of i32 or i64, result [indices…, D]. `weight_scale` (and `weight_zero`) is [] or [V]
    or, with `group`, [V, ceil(D / group)]; a table of f16 has one scale. Negative indices count from the end, as in ONNX; indices out of range are a run-time error.
  }];
  let arguments = (ins WeightTensor:$weight, IntTensor:$indices, ScaleTensor:$weight_scale, Optional<IntTensor>:$weight_zero,
                       DefaultValuedAttr<I64Attr, "0">:$group, DefaultValuedStrAttr<StrAttr, "">:$layer);
  let results = (outs FloatTensor:$output);
  let assemblyFormat = [{
    $weight `[` $indices `]` `scale` `(` $weight_scale `)` (`zero` `(` $weight_zero^ `)`)?
    attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

#endif // LOWBIT_DIALECT_LOWBIT_IR_LOWBITOPS_TD
