//===- Lowering.h - what the decompositions share ---------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Decompositions work on signless tensors with at least a byte per element: ui8 becomes
// i8, i4 and ui4 a byte each. Constants are written anew; other values, and results, cross
// by unrealized_conversion_cast, and pairs of casts cancel.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_LOWBITTOLINALG_LOWERING_H
#define LOWBIT_LIB_CONVERSION_LOWBITTOLINALG_LOWERING_H

#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/Builders.h"

namespace lowbit {

/// The type that elements of `type` are stored as: signless, a byte at least.
Type storageType(Type element);
RankedTensorType storageType(RankedTensorType type);

/// Computes what a generic yields from its block arguments.
using BodyFn = function_ref<Value(OpBuilder &, ValueRange)>;

/// Builds the decomposition of one op at a place.
struct Lowering {
  OpBuilder &b;
  Location loc;

  /// `value` in storage form.
  Value stored(Value value);
  /// `value` in storage form, its elements regarded as `shape` and then transposed; a constant is
  /// written so.
  Value storedPermuted(Value value, ArrayRef<int64_t> shape, ArrayRef<int64_t> permutation);
  /// linalg.transpose: dimension d of the result is dimension permutation[d] of `value`.
  Value transpose(Value value, ArrayRef<int64_t> permutation);
  /// A rank-0 tensor as a number: f32, or an integer widened to i32 by the signedness of its
  /// elements.
  Value scalar(Value tensor);

  Value constantF32(float value);
  Value constantInt(Type type, int64_t value);
  Value dim(Value tensor, int64_t index);
  /// tensor.empty of `shape`, dynamic dims taken from `dynamic`.
  Value empty(ArrayRef<OpFoldResult> shape, Type element);
  SmallVector<OpFoldResult> shapeOf(Value tensor);

  /// linalg.generic: inputs with their maps, one result over `shape`, identity for its map. All
  /// loops parallel.
  Value elementwise(ArrayRef<Value> inputs, ArrayRef<AffineMap> maps, ArrayRef<OpFoldResult> shape,
                    Type element, BodyFn body);
  /// linalg.generic that accumulates into zeros. `reductions` are its reduction loops.
  Value contract(ArrayRef<Value> inputs, ArrayRef<AffineMap> maps, AffineMap resultMap,
                 ArrayRef<unsigned> reductions, ArrayRef<OpFoldResult> shape, Type element,
                 BodyFn body);

  /// Widens a stored integer to `type` by the signedness of `element`, the type it has in the
  /// lowbit op.
  static Value widen(OpBuilder &b, Location loc, Value stored, Type element, Type type);
  /// saturate(round_half_even(x) + zero) in storage form of `element`; `atZero` clamps at zero from
  /// below (Relu).
  static Value roundAndSaturate(OpBuilder &b, Location loc, Value x, Value zero, Type element,
                                bool atZero);
};

LogicalResult lowerQuantize(QuantizeOp op, OpBuilder &b, Value &result);
/// Quantized values, scales and zero points, in this order.
LogicalResult lowerDynamicQuantize(DynamicQuantizeOp op, OpBuilder &b,
                                   SmallVectorImpl<Value> &results);
LogicalResult lowerDequantize(DequantizeOp op, OpBuilder &b, Value &result);
LogicalResult lowerLinear(LinearOp op, OpBuilder &b, Value &result);
/// The mode of `op` that sums in float.
LogicalResult lowerLinearInFloat(LinearOp op, OpBuilder &b, Value &result);
LogicalResult lowerConv(ConvOp op, OpBuilder &b, Value &result);
LogicalResult lowerGather(GatherOp op, OpBuilder &b, Value &result);

/// (q - zero) * scale over a whole tensor in storage form, whose lowbit element type is `element`:
/// the map takes the loops of `q` to an element of scale and zero.
Value dequantizeStored(Lowering &l, Value q, Type element, Value scale, Value zero, AffineMap map);

} // namespace lowbit

#endif // LOWBIT_LIB_CONVERSION_LOWBITTOLINALG_LOWERING_H
