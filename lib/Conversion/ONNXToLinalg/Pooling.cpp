//===- Pooling.cpp - MaxPool, AveragePool and their global forms -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Window.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

/// The least value of the element type.
static Value lowest(Lowering &l, Type type, bool isUnsigned) {
  if (auto floating = dyn_cast<FloatType>(type))
    return l.constant(l.b.getFloatAttr(
        floating, APFloat::getInf(floating.getFloatSemantics(), /*Negative=*/true)));
  unsigned width = type.getIntOrFloatBitWidth();
  return l.constant(l.b.getIntegerAttr(
      type, isUnsigned ? APInt::getMinValue(width) : APInt::getSignedMinValue(width)));
}

/// Combines what each window covers, from `init` on; loops n, c, output rows, window, output columns.
static Value overWindows(Lowering &l, const Window &w, Value input, Value init,
                         llvm::function_ref<Value(OpBuilder &, Location, Value, Value)> combine) {
  unsigned spatial = w.kernel.size(), loops = 2 + 2 * spatial;
  SmallVector<AffineExpr> inExprs = {l.d(0), l.d(1)}, outExprs = inExprs, windowExprs;
  SmallVector<IteratorType> iterators(loops, IteratorType::parallel);
  for (unsigned i = 0; i < spatial; ++i) {
    AffineExpr out = l.d(i + 1 < spatial ? 2 + i : loops - 1), tap = l.d(1 + spatial + i);
    iterators[1 + spatial + i] = IteratorType::reduction;
    inExprs.push_back(out * w.strides[i] + tap * w.dilations[i]);
    outExprs.push_back(out);
    windowExprs.push_back(tap);
  }
  // Only its shape matters: it gives the loops over the window their extent.
  Value shape = l.empty(w.kernel, cast<RankedTensorType>(init.getType()).getElementType());
  return l.generic(
      {input, shape}, init,
      {l.mapOf(loops, inExprs), l.mapOf(loops, windowExprs), l.mapOf(loops, outExprs)}, iterators,
      [&](OpBuilder &b, Location loc, ValueRange v) {
        linalg::YieldOp::create(b, loc, combine(b, loc, v[2], v[0]));
      });
}

static Sizes outputSizes(Lowering &l, const Window &w) {
  Sizes sizes = {l.dim(l.in(0), 0), l.dim(l.in(0), 1)};
  sizes.append(w.output);
  return sizes;
}

static Window poolWindow(Lowering &l) {
  Sizes kernel;
  for (int64_t size : onnx::getInts(l.op, "kernel_shape"))
    kernel.push_back(l.index(size));
  return readWindow(l, kernel);
}

static LogicalResult maxPool(Lowering &l) {
  if (l.usesResult(1))
    return l.unsupported("the indices of the maxima");
  Type element = l.resultType().getElementType();
  bool isUnsigned = l.isUnsigned(0);
  Window w = poolWindow(l);
  Value fill = lowest(l, element, isUnsigned);
  Value input = padWindow(l, w, l.in(0), fill);
  Value init = l.filled(outputSizes(l, w), fill);
  return l.replace(overWindows(l, w, input, init, [&](OpBuilder &b, Location loc, Value acc, Value x) {
    return maxScalars(b, loc, acc, x, isUnsigned);
  }));
}

static LogicalResult averagePool(Lowering &l) {
  Type element = l.resultType().getElementType();
  if (!isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  Window w = poolWindow(l);
  bool countPads = l.attr("count_include_pad", 0);
  Value zero = l.scalar(element, 0);
  Sizes sizes = outputSizes(l, w);
  Value sums = overWindows(l, w, padWindow(l, w, l.in(0), zero), l.filled(sizes, zero),
                           [](OpBuilder &b, Location loc, Value acc, Value x) {
                             return addScalars(b, loc, acc, x);
                           });
  // The number of elements in a window: all of them, unless it reaches beyond what is counted.
  OpFoldResult all = l.index(1);
  bool constant = true;
  for (size_t i = 0; i < w.kernel.size(); ++i) {
    all = l.mul(all, w.kernel[i]);
    auto isZero = [](OpFoldResult size) { return getConstantIntValue(size) == 0; };
    bool padded = !isZero(w.low[i]) || !isZero(w.high[i]);
    std::optional<int64_t> high = getConstantIntValue(w.high[i]);
    std::optional<int64_t> declared = getConstantIntValue(w.declaredEnd[i]);
    constant &= !padded || (countPads && high && declared && *high <= *declared);
  }
  AffineMap identity = l.b.getMultiDimIdentityMap(sizes.size());
  Value fixed = l.scalar(element, (double)getConstantIntValue(all).value_or(1));
  SmallVector<Value> low, end;
  for (size_t i = 0; i < w.kernel.size(); ++i) {
    low.push_back(l.value(w.low[i]));
    end.push_back(l.value(countPads ? l.add(w.input[i], w.declaredEnd[i]) : w.input[i]));
  }
  return l.replace(l.parallel(sums, identity, sizes, element, [&](OpBuilder &b, Location loc,
                                                                  ValueRange v) {
    Value count = fixed;
    if (!constant) {
      auto index = [&](int64_t value) {
        return arith::ConstantIndexOp::create(b, loc, value).getResult();
      };
      Value taps = index(1), none = index(0);
      for (size_t i = 0; i < w.kernel.size(); ++i) {
        // Taps k with first <= start + k * dilation < end.
        Value at = linalg::IndexOp::create(b, loc, i + 2);
        Value start = arith::SubIOp::create(
            b, loc, arith::MulIOp::create(b, loc, at, index(w.strides[i])), low[i]);
        Value first = countPads ? arith::SubIOp::create(b, loc, none, low[i]).getResult() : none;
        auto upTo = [&](Value limit) -> Value {
          Value room = arith::SubIOp::create(b, loc, limit, start);
          Value step = index(w.dilations[i]);
          Value k = arith::CeilDivSIOp::create(b, loc, room, step);
          k = arith::MaxSIOp::create(b, loc, k, none);
          return arith::MinSIOp::create(b, loc, k, index(*getConstantIntValue(w.kernel[i])));
        };
        taps = arith::MulIOp::create(b, loc, taps,
                                     arith::SubIOp::create(b, loc, upTo(end[i]), upTo(first)));
      }
      Value wide = arith::IndexCastOp::create(b, loc, b.getI64Type(), taps);
      count = arith::SIToFPOp::create(b, loc, element, wide);
    }
    return arith::DivFOp::create(b, loc, v[0], count).getResult();
  }));
}

static LogicalResult globalPool(Lowering &l) {
  bool average = l.name() == "GlobalAveragePool";
  Type element = l.resultType().getElementType();
  bool isUnsigned = l.isUnsigned(0);
  if (average && !isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  Sizes in = l.sizes(l.in(0)), sizes = {in[0], in[1]};
  OpFoldResult count = l.index(1);
  unsigned rank = in.size();
  SmallVector<IteratorType> iterators(rank, IteratorType::reduction);
  iterators[0] = iterators[1] = IteratorType::parallel;
  for (unsigned i = 2; i < rank; ++i) {
    sizes.push_back(l.index(1));
    count = l.mul(count, in[i]);
  }
  // The trailing dims of size 1 are no loops of the result: reduce into rank 2, then expand.
  Value init =
      l.filled({in[0], in[1]}, average ? l.scalar(element, 0) : lowest(l, element, isUnsigned));
  Value result = l.generic(l.in(0), init,
                           {l.b.getMultiDimIdentityMap(rank), l.mapOf(rank, {l.d(0), l.d(1)})},
                           iterators, [&](OpBuilder &b, Location loc, ValueRange v) {
                             Value next = average ? addScalars(b, loc, v[1], v[0])
                                                  : maxScalars(b, loc, v[1], v[0], isUnsigned);
                             linalg::YieldOp::create(b, loc, next);
                           });
  Value divisor;
  if (average) {
    Value wide = arith::IndexCastOp::create(l.b, l.b.getI64Type(), l.value(count));
    divisor = arith::SIToFPOp::create(l.b, element, wide);
  }
  return l.replace(l.parallel(result, l.mapOf(rank, {l.d(0), l.d(1)}), sizes, element,
                              [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                                return average ? arith::DivFOp::create(b, loc, v[0], divisor).getResult()
                                               : v[0];
                              }));
}

void lowbit::onnx::addPoolingLowerings(LoweringTable &table) {
  table["AveragePool"] = averagePool;
  table["GlobalAveragePool"] = globalPool;
  table["GlobalMaxPool"] = globalPool;
  table["MaxPool"] = maxPool;
}
