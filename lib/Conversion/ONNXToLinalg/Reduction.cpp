//===- Reduction.cpp - Reduce* ----------------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Reduction.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

AffineMap lowbit::onnx::withoutAxes(Lowering &l, int64_t rank, ArrayRef<int64_t> axes) {
  SmallVector<AffineExpr> exprs;
  for (int64_t i = 0; i < rank; ++i)
    if (!llvm::is_contained(axes, i))
      exprs.push_back(l.d(i));
  return l.mapOf(rank, exprs);
}

Value lowbit::onnx::reduceOver(Lowering &l, Value input, ArrayRef<int64_t> axes, Value init,
                         llvm::function_ref<Value(OpBuilder &, Location, Value, Value)> step) {
  Sizes own = l.sizes(input), sizes;
  int64_t rank = own.size();
  SmallVector<IteratorType> iterators(rank, IteratorType::parallel);
  for (int64_t i = 0; i < rank; ++i) {
    if (llvm::is_contained(axes, i))
      iterators[i] = IteratorType::reduction;
    else
      sizes.push_back(own[i]);
  }
  return l.generic(input, l.filled(sizes, init),
                   {l.b.getMultiDimIdentityMap(rank), withoutAxes(l, rank, axes)}, iterators,
                   [&](OpBuilder &b, Location loc, ValueRange v) {
                     linalg::YieldOp::create(b, loc, step(b, loc, v[1], v[0]));
                   });
}

Value lowbit::onnx::reducedCount(Lowering &l, Value input, ArrayRef<int64_t> axes, Type element) {
  OpFoldResult count = l.index(1);
  for (int64_t axis : axes)
    count = l.mul(count, l.dim(input, axis));
  if (std::optional<int64_t> constant = getConstantIntValue(count))
    return l.scalar(element, (double)*constant);
  Value wide = arith::IndexCastOp::create(l.b, l.b.getI64Type(), l.value(count));
  return arith::SIToFPOp::create(l.b, element, wide);
}

Value lowbit::onnx::extremum(Lowering &l, Type element, bool isUnsigned, bool highest) {
  if (auto floating = dyn_cast<FloatType>(element))
    return l.constant(
        l.b.getFloatAttr(floating, APFloat::getInf(floating.getFloatSemantics(), !highest)));
  unsigned width = element.getIntOrFloatBitWidth();
  if (isUnsigned || width == 1)
    return l.constant(width == 1 ? (TypedAttr)l.b.getBoolAttr(highest)
                                 : l.b.getIntegerAttr(element, highest ? APInt::getMaxValue(width)
                                                                       : APInt::getMinValue(width)));
  return l.constant(l.b.getIntegerAttr(element, highest ? APInt::getSignedMaxValue(width)
                                                        : APInt::getSignedMinValue(width)));
}

static LogicalResult reduce(Lowering &l) {
  StringRef name = l.name();
  int64_t rank = l.rank(0);
  SmallVector<int64_t> axes;
  if (l.has(1)) {
    std::optional<SmallVector<int64_t>> given = l.constants(1);
    if (!given)
      return l.unsupported("axes that only the run knows");
    for (int64_t axis : *given)
      axes.push_back(axis < 0 ? axis + rank : axis);
  }
  Value input = l.in(0);
  bool noop = axes.empty() && l.attr("noop_with_empty_axes", 0) == 1;
  if (axes.empty() && !noop)
    llvm::append_range(axes, llvm::seq<int64_t>(rank));
  Type element = l.resultType().getElementType();
  bool floating = isa<FloatType>(element), isUnsigned = l.isUnsigned(0);
  bool needsFloat = name == "ReduceMean" || name == "ReduceL2" || name == "ReduceLogSumExp";
  if (needsFloat && !floating)
    return l.unsupported("elements cannot be of this type");
  // 16-bit floats add up in f32.
  Type sum = floating && element.getIntOrFloatBitWidth() < 32 ? (Type)l.b.getF32Type() : element;

  Value init, shift;
  bool isMax = name == "ReduceMax", isMin = name == "ReduceMin";
  if (isMax || isMin) {
    init = extremum(l, element, isUnsigned, isMin);
    sum = element;
  } else {
    init = l.scalarInt(sum, name == "ReduceProd");
  }
  if (name == "ReduceLogSumExp") // exp(x - max) does not overflow.
    shift = reduceOver(l, input, axes, extremum(l, element, false, false),
                       [](OpBuilder &b, Location loc, Value acc, Value x) {
                         return arith::MaximumFOp::create(b, loc, acc, x).getResult();
                       });
  AffineMap outer = withoutAxes(l, rank, axes), identity = l.b.getMultiDimIdentityMap(rank);
  if (shift)
    input = l.parallel({input, shift}, {identity, outer}, l.sizes(input), element,
                       [](OpBuilder &b, Location loc, ValueRange v) -> Value {
                         Value x = arith::SubFOp::create(b, loc, v[0], v[1]);
                         return math::ExpOp::create(b, loc, x);
                       });
  Value result = reduceOver(
      l, input, axes, init, [&](OpBuilder &b, Location loc, Value acc, Value x) -> Value {
        if (isMax)
          return maxScalars(b, loc, acc, x, isUnsigned);
        if (isMin)
          return minScalars(b, loc, acc, x, isUnsigned);
        x = castScalar(b, loc, x, element, sum);
        if (name == "ReduceProd")
          return mulScalars(b, loc, acc, x);
        if (name == "ReduceL1" && floating)
          x = math::AbsFOp::create(b, loc, x);
        else if (name == "ReduceL1" && !isUnsigned)
          x = math::AbsIOp::create(b, loc, x);
        else if (name == "ReduceL2" || name == "ReduceSumSquare")
          x = mulScalars(b, loc, x, x);
        return addScalars(b, loc, acc, x);
      });
  Value count = name == "ReduceMean" ? reducedCount(l, input, axes, sum) : Value();
  // What comes after the sum, together with the dims of size 1 that are kept.
  bool keep = l.attr("keepdims", 1) == 1 || noop;
  Sizes sizes;
  SmallVector<AffineExpr> exprs;
  Sizes own = l.sizes(l.in(0));
  for (int64_t i = 0; i < rank; ++i) {
    bool reduced = llvm::is_contained(axes, i);
    if (reduced && !keep)
      continue;
    if (!reduced)
      exprs.push_back(l.d(sizes.size()));
    sizes.push_back(reduced ? l.index(1) : own[i]);
  }
  SmallVector<Value> inputs = {result};
  SmallVector<AffineMap> maps = {l.mapOf(sizes.size(), exprs)};
  if (shift) {
    inputs.push_back(shift);
    maps.push_back(maps[0]);
  }
  return l.replace(l.parallel(inputs, maps, sizes, element,
                              [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
    Value x = v[0];
    if (count)
      x = arith::DivFOp::create(b, loc, x, count);
    if (name == "ReduceL2")
      x = math::SqrtOp::create(b, loc, x);
    if (shift)
      x = arith::AddFOp::create(b, loc, math::LogOp::create(b, loc, x),
                                castScalar(b, loc, v[1], element, sum));
    return castScalar(b, loc, x, sum, element);
  }));
}

void lowbit::onnx::addReductionLowerings(LoweringTable &table) {
  for (StringRef name : {"ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
                         "ReduceProd", "ReduceSum", "ReduceSumSquare"})
    table[name] = reduce;
}
