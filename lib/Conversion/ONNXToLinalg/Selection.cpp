//===- Selection.cpp - ArgMax, ArgMin, TopK, Hardmax ------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Reduction.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

/// Is x better than y: greater (or less), where a NaN never is.
static Value better(OpBuilder &b, Location loc, Value x, Value y, bool greater, bool isUnsigned,
                    bool orEqual) {
  if (isa<FloatType>(x.getType())) {
    using P = arith::CmpFPredicate;
    return arith::CmpFOp::create(
        b, loc, greater ? (orEqual ? P::OGE : P::OGT) : (orEqual ? P::OLE : P::OLT), x, y);
  }
  using P = arith::CmpIPredicate;
  P predicate = greater ? (isUnsigned ? (orEqual ? P::uge : P::ugt) : (orEqual ? P::sge : P::sgt))
                        : (isUnsigned ? (orEqual ? P::ule : P::ult) : (orEqual ? P::sle : P::slt));
  return arith::CmpIOp::create(b, loc, predicate, x, y);
}

/// Where operand 0 is greatest (or least) along `axis`, as i64 without that dim.
static Value extremePosition(Lowering &l, int64_t axis, bool greater, bool last) {
  bool isUnsigned = l.isUnsigned(0);
  Value input = l.in(0);
  int64_t rank = l.rank(0);
  Type element = l.inType(0).getElementType(), i64 = l.b.getI64Type();
  Sizes own = l.sizes(input), sizes;
  for (int64_t i = 0; i < rank; ++i)
    if (i != axis)
      sizes.push_back(own[i]);
  SmallVector<IteratorType> iterators(rank, IteratorType::parallel);
  iterators[axis] = IteratorType::reduction;
  AffineMap outer = withoutAxes(l, rank, {axis});
  Value best = l.filled(sizes, extremum(l, element, isUnsigned, !greater));
  Value where = l.filled(sizes, l.scalarInt(i64, 0));
  auto found = linalg::GenericOp::create(
      l.b, TypeRange{best.getType(), where.getType()}, ValueRange{input}, ValueRange{best, where},
      ArrayRef<AffineMap>{l.b.getMultiDimIdentityMap(rank), outer, outer}, iterators,
      [&](OpBuilder &b, Location loc, ValueRange v) {
        Value position = linalg::IndexOp::create(b, loc, axis);
        Value wide = arith::IndexCastOp::create(b, loc, i64, position);
        Value wins = better(b, loc, v[0], v[1], greater, isUnsigned, last);
        Value value = arith::SelectOp::create(b, loc, wins, v[0], v[1]);
        Value index = arith::SelectOp::create(b, loc, wins, wide, v[2]);
        linalg::YieldOp::create(b, loc, ValueRange{value, index});
      });
  return found.getResult(1);
}

static LogicalResult argReduce(Lowering &l) {
  int64_t rank = l.rank(0), axis = l.axis("axis", 0, rank);
  Type i64 = l.b.getI64Type();
  Value result = extremePosition(l, axis, l.name() == "ArgMax", l.attr("select_last_index", 0));
  if (l.attr("keepdims", 1) == 1) {
    Sizes kept = l.sizes(l.in(0));
    kept[axis] = l.index(1);
    SmallVector<AffineExpr> exprs;
    for (int64_t i = 0; i < rank; ++i)
      if (i != axis)
        exprs.push_back(l.d(i));
    result = l.parallel(result, l.mapOf(rank, exprs), kept, i64,
                        [](OpBuilder &, Location, ValueRange v) { return v[0]; });
  }
  return l.replace(result);
}

/// 1 where the greatest element along the axis stands for the first time, else 0.
static LogicalResult hardmax(Lowering &l) {
  int64_t rank = l.rank(0);
  if (rank == 0)
    return l.unsupported("a scalar input");
  int64_t axis = l.axis("axis", -1, rank);
  Type element = l.resultType().getElementType();
  Value where = extremePosition(l, axis, /*greater=*/true, /*last=*/false);
  Value one = l.scalarInt(element, 1), zero = l.scalarInt(element, 0);
  return l.replace(l.parallel(where, withoutAxes(l, rank, {axis}), l.sizes(l.in(0)), element,
                              [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                                Value here = arith::IndexCastOp::create(
                                    b, loc, b.getI64Type(), linalg::IndexOp::create(b, loc, axis));
                                Value is = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq,
                                                                 v[0], here);
                                return arith::SelectOp::create(b, loc, is, one, zero);
                              }));
}

/// For every row: k times, the best element that comes after the one chosen before, in the order
/// (value, index).
static LogicalResult topK(Lowering &l) {
  bool greater = l.attr("largest", 1), isUnsigned = l.isUnsigned(0);
  Value input = l.in(0);
  int64_t rank = l.rank(0), axis = l.axis("axis", -1, rank);
  Type element = l.inType(0).getElementType(), i64 = l.b.getI64Type();
  Sizes own = l.sizes(input), sizes = own;
  OpFoldResult asked = l.max(l.entry(1, 0), l.index(0));
  sizes[axis] = asked;
  std::optional<int64_t> k = getConstantIntValue(asked), size = getConstantIntValue(own[axis]);
  if (k && size && *k > *size)
    return l.unsupported("k is " + Twine(*k) + ", the dim has only " + Twine(*size));
  if (!k || !size) {
    l.check(
        arith::CmpIOp::create(l.b, arith::CmpIPredicate::sle, l.value(asked), l.value(own[axis])),
        "k is greater than the dim");
    sizes[axis] = l.min(asked, own[axis]);
  }
  Value zero = l.value(l.index(0)), one = l.value(l.index(1)), extent = l.value(own[axis]);
  Value none = l.scalarInt(i64, -1);
  SmallVector<Value> lower(rank, zero), step(rank, one), upper;
  for (OpFoldResult bound : sizes)
    upper.push_back(l.value(bound));
  // The loop over the axis innermost, so that the choice before is in the result already.
  SmallVector<int64_t> order;
  for (int64_t i = 0; i < rank; ++i)
    if (i != axis)
      order.push_back(i);
  order.push_back(axis);
  SmallVector<Value> bounds;
  for (int64_t i : order)
    bounds.push_back(upper[i]);
  auto nest = scf::buildLoopNest(
      l.b, l.b.getLoc(), lower, bounds, step,
      ValueRange{l.empty(sizes, element), l.empty(sizes, i64)},
      [&](OpBuilder &b, Location loc, ValueRange loops, ValueRange carried) -> scf::ValueVector {
        SmallVector<Value> at(rank), before;
        for (auto [loop, dim] : llvm::zip(loops, order))
          at[dim] = loop;
        before = at;
        Value first = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, at[axis], zero);
        Value previous = arith::SubIOp::create(b, loc, at[axis], one);
        before[axis] = arith::MaxSIOp::create(b, loc, previous, zero);
        Value lastValue = tensor::ExtractOp::create(b, loc, carried[0], before);
        Value lastIndex = tensor::ExtractOp::create(b, loc, carried[1], before);
        SmallVector<Value> start = at;
        start[axis] = zero;
        Value any = tensor::ExtractOp::create(b, loc, input, start);
        auto scan = scf::ForOp::create(
            b, loc, zero, extent, one, ValueRange{any, none},
            [&](OpBuilder &b, Location loc, Value i, ValueRange best) {
              SmallVector<Value> from = at;
              from[axis] = i;
              Value x = tensor::ExtractOp::create(b, loc, input, from);
              Value index = arith::IndexCastOp::create(b, loc, i64, i);
              // Still to be had: worse than the last choice, or equal and behind it.
              Value worse = better(b, loc, lastValue, x, greater, isUnsigned, false);
              Value notBetter = arith::XOrIOp::create(
                  b, loc, better(b, loc, x, lastValue, greater, isUnsigned, false),
                  arith::ConstantOp::create(b, loc, b.getBoolAttr(true)));
              Value behind =
                  arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sgt, index, lastIndex);
              Value free = arith::OrIOp::create(
                  b, loc, first,
                  arith::OrIOp::create(b, loc, worse,
                                       arith::AndIOp::create(b, loc, notBetter, behind)));
              Value fresh = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, best[1],
                                                  arith::ConstantIntOp::create(b, loc, 0, 64));
              Value wins = arith::OrIOp::create(
                  b, loc, fresh, better(b, loc, x, best[0], greater, isUnsigned, false));
              wins = arith::AndIOp::create(b, loc, wins, free);
              Value value = arith::SelectOp::create(b, loc, wins, x, best[0]);
              Value place = arith::SelectOp::create(b, loc, wins, index, best[1]);
              scf::YieldOp::create(b, loc, ValueRange{value, place});
            });
        Value values = tensor::InsertOp::create(b, loc, scan.getResult(0), carried[0], at);
        Value indices = tensor::InsertOp::create(b, loc, scan.getResult(1), carried[1], at);
        return {values, indices};
      });
  if (failed(l.replace(0, nest.results[0])))
    return failure();
  return l.replace(1, nest.results[1]);
}

void lowbit::onnx::addSelectionLowerings(LoweringTable &table) {
  table["ArgMax"] = argReduce;
  table["ArgMin"] = argReduce;
  table["Hardmax"] = hardmax;
  table["TopK"] = topK;
}
