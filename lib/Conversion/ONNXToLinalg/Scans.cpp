//===- Scans.cpp - CumSum and CumProd ---------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "RuntimeAxes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

/// An axis that only the run knows: all elements in an order in which the one before along the axis
/// has had its turn.
static LogicalResult accumulateAtRun(Lowering &l) {
  int64_t rank = l.rank(0);
  bool exclusive = l.attr("exclusive", 0), reverse = l.attr("reverse", 0),
       product = l.name() == "CumProd";
  Value input = l.in(0);
  Type element = l.resultType().getElementType(), sum = accumulator(element);
  RuntimeAxes axes(l, 1, rank);
  Sizes sizes = l.sizes(input);
  Value zero = l.value(l.index(0)), one = l.value(l.index(1)), none = l.scalarInt(sum, product);
  SmallVector<Value> lower(rank, zero), step(rank, one), upper, last;
  for (OpFoldResult size : sizes) {
    upper.push_back(l.value(size));
    last.push_back(l.value(l.sub(size, l.index(1))));
  }
  auto nest = scf::buildLoopNest(
      l.b, l.b.getLoc(), lower, upper, step,
      ValueRange{l.empty(sizes, sum), l.empty(sizes, element)},
      [&](OpBuilder &b, Location loc, ValueRange loops, ValueRange carried) -> scf::ValueVector {
        SmallVector<Value> at, before;
        Value first = arith::ConstantOp::create(b, loc, b.getBoolAttr(false));
        for (int64_t d = 0; d < rank; ++d) {
          Value previous =
              arith::MaxSIOp::create(b, loc, arith::SubIOp::create(b, loc, loops[d], one), zero);
          Value start = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, loops[d], zero);
          first = arith::OrIOp::create(b, loc, first,
                                       arith::AndIOp::create(b, loc, start, axes.named(d)));
          previous = arith::SelectOp::create(b, loc, axes.named(d), previous, loops[d]);
          auto place = [&](Value i) -> Value {
            return reverse ? arith::SubIOp::create(b, loc, last[d], i).getResult() : i;
          };
          at.push_back(place(loops[d]));
          before.push_back(place(previous));
        }
        Value sofar = tensor::ExtractOp::create(b, loc, carried[0], before);
        sofar = arith::SelectOp::create(b, loc, first, none, sofar);
        Value x = castScalar(b, loc, tensor::ExtractOp::create(b, loc, input, at), element, sum);
        Value next = product ? mulScalars(b, loc, sofar, x) : addScalars(b, loc, sofar, x);
        Value shown = castScalar(b, loc, exclusive ? sofar : next, sum, element);
        return {tensor::InsertOp::create(b, loc, next, carried[0], at).getResult(),
                tensor::InsertOp::create(b, loc, shown, carried[1], at).getResult()};
      });
  return l.replace(nest.results[1]);
}

static LogicalResult accumulate(Lowering &l) {
  std::optional<SmallVector<int64_t>> given = l.constants(1);
  if (!given)
    return accumulateAtRun(l);
  int64_t rank = l.rank(0), axis = (*given)[0] < 0 ? (*given)[0] + rank : (*given)[0];
  bool exclusive = l.attr("exclusive", 0), reverse = l.attr("reverse", 0),
       product = l.name() == "CumProd";
  Value input = l.in(0);
  Type element = l.resultType().getElementType(), sum = accumulator(element);
  Sizes sizes = l.sizes(input), outer = sizes;
  outer.erase(outer.begin() + axis);
  Value zero = l.value(l.index(0)), one = l.value(l.index(1)), extent = l.value(sizes[axis]);
  Value last = arith::SubIOp::create(l.b, extent, one);
  SmallVector<Value> bounds;
  SmallVector<int64_t> order;
  for (int64_t i = 0; i < rank; ++i)
    if (i != axis)
      order.push_back(i);
  for (int64_t i : order)
    bounds.push_back(l.value(sizes[i]));
  SmallVector<Value> lower(bounds.size(), zero), step(bounds.size(), one);
  Value none = l.scalarInt(sum, product);
  auto row = [&](OpBuilder &b, Location loc, ValueRange loops,
                 ValueRange carried) -> scf::ValueVector {
    auto walk = scf::ForOp::create(
        b, loc, zero, extent, one, ValueRange{none, carried[0]},
        [&](OpBuilder &b, Location loc, Value i, ValueRange state) {
          SmallVector<Value> at(rank);
          for (auto [loop, dim] : llvm::zip(loops, order))
            at[dim] = loop;
          at[axis] = reverse ? arith::SubIOp::create(b, loc, last, i).getResult() : i;
          Value x = tensor::ExtractOp::create(b, loc, input, at);
          x = castScalar(b, loc, x, element, sum);
          Value next = product ? mulScalars(b, loc, state[0], x) : addScalars(b, loc, state[0], x);
          Value shown = castScalar(b, loc, exclusive ? state[0] : next, sum, element);
          Value kept = tensor::InsertOp::create(b, loc, shown, state[1], at);
          scf::YieldOp::create(b, loc, ValueRange{next, kept});
        });
    return {walk.getResult(1)};
  };
  Value init = l.empty(sizes, element);
  if (bounds.empty())
    return l.replace(row(l.b, l.b.getLoc(), {}, init)[0]);
  return l.replace(
      scf::buildLoopNest(l.b, l.b.getLoc(), lower, bounds, step, init, row).results[0]);
}

void lowbit::onnx::addScanLowerings(LoweringTable &table) {
  table["CumProd"] = accumulate;
  table["CumSum"] = accumulate;
}
