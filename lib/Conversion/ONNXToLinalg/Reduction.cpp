//===- Reduction.cpp - Reduce* ----------------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Reduction.h"
#include "RuntimeAxes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
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

Value lowbit::onnx::reduceOver(
    Lowering &l, Value input, ArrayRef<int64_t> axes, Value init,
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
    return l.constant(width == 1
                          ? (TypedAttr)l.b.getBoolAttr(highest)
                          : l.b.getIntegerAttr(element, highest ? APInt::getMaxValue(width)
                                                                : APInt::getMinValue(width)));
  return l.constant(l.b.getIntegerAttr(element, highest ? APInt::getSignedMaxValue(width)
                                                        : APInt::getSignedMinValue(width)));
}

namespace {
/// What one Reduce* operator does before, while and after it adds up. Sums of 16-bit floats are
/// kept in f32; roots, logarithms and the like of integers are those of f64, cut to an integer.
struct Reducer {
  Lowering &l;
  StringRef name = l.name();
  Type from = l.element(0), element = toSignless(from);
  bool floating = isa<FloatType>(element), isUnsigned = from.isUnsignedInteger();
  Type sum = floating && element.getIntOrFloatBitWidth() < 32 ? Type(l.b.getF32Type()) : element;
  Type wide = floating ? sum : Type(l.b.getF64Type()); ///< For what needs floats.

  bool isMax() const { return name == "ReduceMax"; }
  bool isMin() const { return name == "ReduceMin"; }
  bool isExponential() const { return name == "ReduceLogSumExp"; }
  /// The type of the accumulator.
  Type state() const { return isMax() || isMin() ? element : isExponential() ? wide : sum; }
  Value init() {
    if (isMax() || isMin())
      return extremum(l, element, isUnsigned, isMin());
    return l.scalarInt(state(), name == "ReduceProd");
  }
  /// The state with one more element of the input; `shift` is the greatest element, for
  /// ReduceLogSumExp.
  Value step(OpBuilder &b, Location loc, Value acc, Value x, Value shift) {
    if (isMax())
      return maxScalars(b, loc, acc, x, isUnsigned);
    if (isMin())
      return minScalars(b, loc, acc, x, isUnsigned);
    if (isExponential()) {
      x = castScalar(b, loc, x, from, wide);
      x = math::ExpOp::create(b, loc, arith::SubFOp::create(b, loc, x, finiteShift(b, loc, shift)));
      return arith::AddFOp::create(b, loc, acc, x);
    }
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
  }
  /// The greatest element as float; 0 where it is infinite, because infinity - infinity is none.
  Value finiteShift(OpBuilder &b, Location loc, Value shift) {
    Value x = castScalar(b, loc, shift, from, wide);
    Value infinite =
        arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, math::AbsFOp::create(b, loc, x),
                              arith::ConstantOp::create(b, loc, b.getFloatAttr(wide, HUGE_VAL)));
    Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(wide));
    return arith::SelectOp::create(b, loc, infinite, zero, x);
  }
  /// The result from the state; `count` is how many elements came together, an index.
  Value finish(OpBuilder &b, Location loc, Value x, Value shift, Value count) {
    if (isMax() || isMin())
      return x;
    Type own = isUnsigned ? from : sum;
    if (isExponential()) {
      x = arith::AddFOp::create(b, loc, math::LogOp::create(b, loc, x), finiteShift(b, loc, shift));
      return castScalar(b, loc, x, wide, from);
    }
    if (name == "ReduceMean") {
      Value number = arith::IndexCastOp::create(b, loc, b.getI64Type(), count);
      if (floating)
        return castScalar(
            b, loc, arith::DivFOp::create(b, loc, x, arith::SIToFPOp::create(b, loc, sum, number)),
            sum, from);
      number = castScalar(b, loc, number, b.getI64Type(), element);
      Value one = arith::ConstantOp::create(b, loc, b.getIntegerAttr(element, 1));
      number = arith::MaxUIOp::create(b, loc, number, one);
      return isUnsigned ? arith::DivUIOp::create(b, loc, x, number).getResult()
                        : arith::DivSIOp::create(b, loc, x, number).getResult();
    }
    if (name == "ReduceL2" || name == "ReduceLogSum") {
      x = castScalar(b, loc, x, own, wide);
      x = name == "ReduceL2" ? math::SqrtOp::create(b, loc, x).getResult()
                             : math::LogOp::create(b, loc, x).getResult();
      return castScalar(b, loc, x, wide, from);
    }
    return castScalar(b, loc, x, sum, element);
  }
};
} // namespace

/// Axes that only the run knows: all elements one after the other, each into the place that its
/// axes leave it.
static LogicalResult reduceAtRun(Lowering &l) {
  Reducer reducer{l};
  Value input = l.in(0);
  int64_t rank = l.rank(0);
  bool keep = l.attr("keepdims", 1) == 1;
  Sizes own = l.sizes(input);
  Value zero = l.value(l.index(0)), one = l.value(l.index(1));
  RuntimeAxes axes(l, 1, rank);
  if (!l.attr("noop_with_empty_axes", 0))
    axes.nameAllIfNone();
  auto reduced = [&](int64_t d) { return axes.named(d); };
  Sizes kept;
  Value count = one;
  for (int64_t d = 0; d < rank; ++d) {
    Value size = l.value(own[d]);
    kept.push_back(arith::SelectOp::create(l.b, reduced(d), one, size).getResult());
    count = arith::MulIOp::create(l.b, count, arith::SelectOp::create(l.b, reduced(d), size, one));
  }
  SmallVector<Value> lower(rank, zero), step(rank, one), upper;
  for (OpFoldResult size : own)
    upper.push_back(l.value(size));
  auto fold = [&](Value init,
                  llvm::function_ref<Value(OpBuilder &, Location, Value, Value, ValueRange)> next)
      -> Value {
    auto visit = [&](OpBuilder &b, Location loc, ValueRange at,
                     ValueRange carried) -> scf::ValueVector {
      SmallVector<Value> to;
      for (int64_t d = 0; d < rank; ++d)
        to.push_back(arith::SelectOp::create(b, loc, reduced(d), zero, at[d]));
      Value x = tensor::ExtractOp::create(b, loc, input, at),
            old = tensor::ExtractOp::create(b, loc, carried[0], to);
      return {
          tensor::InsertOp::create(b, loc, next(b, loc, old, x, to), carried[0], to).getResult()};
    };
    Value start = l.filled(kept, init);
    if (rank == 0)
      return visit(l.b, l.b.getLoc(), {}, start)[0];
    return scf::buildLoopNest(l.b, l.b.getLoc(), lower, upper, step, start, visit).results[0];
  };
  Value shift;
  if (reducer.isExponential())
    shift = fold(extremum(l, reducer.element, reducer.isUnsigned, false),
                 [&](OpBuilder &b, Location loc, Value acc, Value x, ValueRange) {
                   return maxScalars(b, loc, acc, x, reducer.isUnsigned);
                 });
  Value sums =
      fold(reducer.init(), [&](OpBuilder &b, Location loc, Value acc, Value x, ValueRange to) {
        Value most = shift ? tensor::ExtractOp::create(b, loc, shift, to).getResult() : Value();
        return reducer.step(b, loc, acc, x, most);
      });
  SmallVector<Value> inputs = {sums};
  SmallVector<AffineMap> maps = {l.b.getMultiDimIdentityMap(rank)};
  if (shift)
    inputs.push_back(shift), maps.push_back(maps[0]);
  Value result = l.parallel(inputs, maps, kept, reducer.element,
                            [&](OpBuilder &b, Location loc, ValueRange v) {
                              return reducer.finish(b, loc, v[0], shift ? v[1] : Value(), count);
                            });
  if (keep)
    return l.replace(result);
  const Dims &to = l.resultDims();
  Dims from;
  for (int64_t d = 0; d < rank; ++d)
    from.push_back(l.shapes.fresh());
  return l.replace(l.reshape(result, from, to, axes.without(own, to.size())));
}

static LogicalResult reduce(Lowering &l) {
  Reducer reducer{l};
  int64_t rank = l.rank(0);
  if (!reducer.floating && reducer.element.isInteger(1) && !reducer.isMax() && !reducer.isMin())
    return l.unsupported("elements cannot be of this type");
  SmallVector<int64_t> axes;
  if (l.has(1)) {
    std::optional<SmallVector<int64_t>> given = l.constants(1);
    if (!given && l.dims(1)[0].isConstant(0))
      given.emplace();
    if (!given)
      return reduceAtRun(l);
    for (int64_t axis : *given)
      axes.push_back(axis < 0 ? axis + rank : axis);
  }
  Value input = l.in(0);
  bool noop = axes.empty() && l.attr("noop_with_empty_axes", 0) == 1;
  if (axes.empty() && !noop)
    llvm::append_range(axes, llvm::seq<int64_t>(rank));
  OpFoldResult total = l.index(1);
  for (int64_t axis : axes)
    total = l.mul(total, l.dim(input, axis));
  Value count = reducer.name == "ReduceMean" ? l.value(total) : Value(), shift;
  if (reducer.isExponential()) // exp(x - max) does not overflow.
    shift = reduceOver(l, input, axes, extremum(l, reducer.element, reducer.isUnsigned, false),
                       [&](OpBuilder &b, Location loc, Value acc, Value x) {
                         return maxScalars(b, loc, acc, x, reducer.isUnsigned);
                       });
  Value result;
  AffineMap outer = withoutAxes(l, rank, axes), identity = l.b.getMultiDimIdentityMap(rank);
  if (shift) {
    SmallVector<IteratorType> iterators(rank, IteratorType::parallel);
    Sizes sizes;
    for (int64_t i = 0; i < rank; ++i) {
      if (llvm::is_contained(axes, i))
        iterators[i] = IteratorType::reduction;
      else
        sizes.push_back(l.dim(input, i));
    }
    result = l.generic({input, shift}, l.filled(sizes, reducer.init()), {identity, outer, outer},
                       iterators, [&](OpBuilder &b, Location loc, ValueRange v) {
                         linalg::YieldOp::create(b, loc, reducer.step(b, loc, v[2], v[0], v[1]));
                       });
  } else {
    result = reduceOver(l, input, axes, reducer.init(),
                        [&](OpBuilder &b, Location loc, Value acc, Value x) {
                          return reducer.step(b, loc, acc, x, Value());
                        });
  }
  // What comes after the sum, together with the dims of size 1 that are kept.
  bool keep = l.attr("keepdims", 1) == 1 || noop;
  Sizes sizes;
  SmallVector<AffineExpr> exprs;
  Sizes own = l.sizes(input);
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
  return l.replace(l.parallel(inputs, maps, sizes, reducer.element,
                              [&](OpBuilder &b, Location loc, ValueRange v) {
                                return reducer.finish(b, loc, v[0], shift ? v[1] : Value(), count);
                              }));
}

void lowbit::onnx::addReductionLowerings(LoweringTable &table) {
  for (StringRef name : {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
                         "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"})
    table[name] = reduce;
}
