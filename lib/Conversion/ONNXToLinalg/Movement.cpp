//===- Movement.cpp - ops that copy whole tensors elsewhere -----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "RuntimeAxes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

static LogicalResult transpose(Lowering &l) {
  int64_t rank = l.rank(0);
  SmallVector<int64_t> perm = onnx::getInts(l.op, "perm");
  if (!onnx::hasInts(l.op, "perm"))
    perm = llvm::to_vector(llvm::reverse(llvm::seq<int64_t>(rank)));
  for (int64_t &axis : perm)
    axis += axis < 0 ? rank : 0;
  return l.replace(l.transpose(l.in(0), perm));
}

static LogicalResult concat(Lowering &l) {
  int64_t axis = l.axis("axis", 0, l.rank(0));
  unsigned parts = l.op->getNumOperands();
  Sizes sizes = l.sizes(l.in(0));
  for (unsigned i = 1; i < parts; ++i)
    sizes[axis] = l.add(sizes[axis], l.dim(l.in(i), axis));
  Value result = l.empty(sizes, l.resultType().getElementType());
  OpFoldResult offset = l.index(0);
  for (unsigned i = 0; i < parts; ++i) {
    Value part = l.in(i), first = l.in(0);
    for (int64_t d = 0; d < l.rank(0); ++d)
      if (d != axis && i > 0)
        l.equalize(part, d, l.dims(i)[d], first, d, l.dims(0)[d], "the sizes of the parts");
    Sizes own = l.sizes(part), offsets(own.size(), l.index(0));
    offsets[axis] = offset;
    offset = l.add(offset, own[axis]);
    result = l.insert(part, result, offsets);
  }
  return l.replace(result);
}

static LogicalResult expand(Lowering &l) {
  const Dims &to = l.resultDims();
  unsigned offset = to.size() - l.rank(0);
  std::optional<int64_t> length = l.dims(1)[0].constant();
  Sizes sizes;
  for (auto [i, dim] : llvm::enumerate(to)) {
    OpFoldResult size = l.known(dim);
    if (!size) {
      // Broadcast of the input's dim with the entry of the shape.
      OpFoldResult mine = i < offset ? l.index(1) : l.dim(l.in(0), i - offset);
      int64_t at = (int64_t)i - ((int64_t)to.size() - *length);
      OpFoldResult asked = at < 0 ? l.index(1) : l.max(l.entry(1, at), l.index(0));
      Value one = l.value(l.index(1));
      Value keeps = arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, l.value(asked), one);
      size = arith::SelectOp::create(l.b, keeps, l.value(mine), l.value(asked)).getResult();
    }
    sizes.push_back(size);
  }
  Value input = l.in(0);
  AffineMap map = l.broadcastMap(input, l.dims(0), to, sizes);
  return l.replace(l.parallel(input, map, sizes, l.resultType().getElementType(),
                              [](OpBuilder &, Location, ValueRange v) { return v[0]; }));
}

static LogicalResult tile(Lowering &l) {
  Value input = l.in(0);
  Sizes own = l.sizes(input), sizes;
  l.expectEntries(1, own.size());
  for (auto [i, size] : llvm::enumerate(own))
    sizes.push_back(l.mul(size, l.max(l.entry(1, i), l.index(0))));
  SmallVector<Value> extents;
  for (OpFoldResult size : own)
    extents.push_back(l.value(size));
  return l.replace(l.parallel({}, {}, sizes, l.resultType().getElementType(),
                              [&](OpBuilder &b, Location loc, ValueRange) -> Value {
                                SmallVector<Value> at;
                                for (auto [i, extent] : llvm::enumerate(extents)) {
                                  Value position = linalg::IndexOp::create(b, loc, i);
                                  at.push_back(arith::RemUIOp::create(b, loc, position, extent));
                                }
                                return tensor::ExtractOp::create(b, loc, input, at);
                              }));
}

/// The input position of output position `at` for a mode that repeats the input, `size` long,
/// around itself.
static Value repeatedPosition(OpBuilder &b, Location loc, StringRef mode, Value at, Value size) {
  auto index = [&](int64_t value) {
    return arith::ConstantIndexOp::create(b, loc, value).getResult();
  };
  Value last = arith::SubIOp::create(b, loc, size, index(1));
  Value inside;
  if (mode == "edge") {
    inside = at;
  } else {
    // wrap has period size; reflect has period 2 (size - 1) and runs back on its second half.
    Value period = mode == "wrap"
                       ? size
                       : arith::MaxSIOp::create(
                             b, loc, arith::MulIOp::create(b, loc, last, index(2)), index(1))
                             .getResult();
    Value rest = arith::RemSIOp::create(b, loc, at, period);
    rest = arith::RemSIOp::create(b, loc, arith::AddIOp::create(b, loc, rest, period), period);
    inside = rest;
    if (mode == "reflect")
      inside = arith::MinSIOp::create(b, loc, rest, arith::SubIOp::create(b, loc, period, rest));
  }
  inside = arith::MinSIOp::create(b, loc, inside, last);
  return arith::MaxSIOp::create(b, loc, inside, index(0));
}

static LogicalResult pad(Lowering &l) {
  StringRef mode = onnx::getString(l.op, "mode", "constant");
  if (mode != "constant" && mode != "edge" && mode != "reflect" && mode != "wrap")
    return l.unsupported("mode " + mode);
  int64_t rank = l.rank(0);
  std::optional<SmallVector<int64_t>> given =
      l.has(3) ? l.constants(3) : llvm::to_vector(llvm::seq<int64_t>(rank));
  Sizes low(rank, l.index(0)), high(rank, l.index(0)), front, back;
  int64_t count = given ? (int64_t)given->size() : l.rank(3) ? *l.dims(3)[0].constant() : 1;
  l.expectEntries(1, 2 * count);
  for (int64_t i = 0; i < count; ++i) {
    front.push_back(l.entry(1, i));
    back.push_back(l.entry(1, count + i));
  }
  if (given) {
    for (auto [i, axis] : llvm::enumerate(*given)) {
      low[axis < 0 ? axis + rank : axis] = front[i];
      high[axis < 0 ? axis + rank : axis] = back[i];
    }
  } else {
    RuntimeAxes axes(l, 3, rank);
    for (int64_t d = 0; d < rank; ++d) {
      low[d] = axes.pick(d, front, l.index(0));
      high[d] = axes.pick(d, back, l.index(0));
    }
  }
  Value input = l.in(0);
  Type element = l.resultType().getElementType();
  Sizes own = l.sizes(input), sizes;
  for (int64_t i = 0; i < rank; ++i)
    sizes.push_back(l.max(l.add(l.add(own[i], low[i]), high[i]), l.index(0)));
  if (mode != "constant") {
    for (int64_t i = 0; i < rank; ++i) // Nothing to repeat.
      if (!l.dims(0)[i].constant()) {
        Value some = arith::CmpIOp::create(l.b, arith::CmpIPredicate::sgt, l.value(own[i]),
                                           l.value(l.index(0)));
        l.check(some, "an empty input cannot be padded");
        sizes[i] =
            arith::SelectOp::create(l.b, some, l.value(sizes[i]), l.value(l.index(0))).getResult();
      } else if (l.dims(0)[i].isConstant(0)) {
        return l.unsupported("padding of an empty input");
      }
    SmallVector<Value> starts, extents;
    for (int64_t i = 0; i < rank; ++i) {
      starts.push_back(l.value(low[i]));
      extents.push_back(l.value(own[i]));
    }
    return l.replace(
        l.parallel({}, {}, sizes, element, [&](OpBuilder &b, Location loc, ValueRange) {
          SmallVector<Value> at;
          for (int64_t i = 0; i < rank; ++i) {
            Value position = linalg::IndexOp::create(b, loc, i);
            position = arith::SubIOp::create(b, loc, position, starts[i]);
            at.push_back(repeatedPosition(b, loc, mode, position, extents[i]));
          }
          return tensor::ExtractOp::create(b, loc, input, at).getResult();
        }));
  }
  // Negative padding removes elements.
  Sizes begin, keep, at;
  for (int64_t i = 0; i < rank; ++i) {
    OpFoldResult zero = l.index(0);
    OpFoldResult cutLow = l.min(l.max(l.sub(zero, low[i]), zero), own[i]);
    OpFoldResult cutHigh = l.max(l.sub(zero, high[i]), zero);
    begin.push_back(cutLow);
    keep.push_back(l.min(l.max(l.sub(l.sub(own[i], cutLow), cutHigh), zero), sizes[i]));
    at.push_back(l.min(l.max(low[i], zero), l.sub(sizes[i], keep[i])));
  }
  Value fill = l.scalarInt(element, 0);
  if (l.has(2)) {
    SmallVector<Value> first(l.rank(2), l.value(l.index(0)));
    fill = tensor::ExtractOp::create(l.b, l.in(2), first);
  }
  Value part = l.slice(input, begin, keep);
  return l.replace(l.insert(part, l.filled(sizes, fill), at));
}

/// Upper or lower triangle of the last two dims.
static LogicalResult trilu(Lowering &l) {
  bool upper = l.attr("upper", 1);
  Type element = l.resultType().getElementType();
  Value shift = l.has(1) ? l.value(l.entry(1, 0)) : l.value(l.index(0));
  Value zero = l.scalarInt(element, 0);
  unsigned rank = l.rank(0);
  return l.replace(l.parallel(l.in(0), l.b.getMultiDimIdentityMap(rank), l.sizes(l.in(0)), element,
                              [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                                Value row = linalg::IndexOp::create(b, loc, rank - 2);
                                Value column = linalg::IndexOp::create(b, loc, rank - 1);
                                Value diagonal = arith::AddIOp::create(b, loc, row, shift);
                                auto predicate =
                                    upper ? arith::CmpIPredicate::sge : arith::CmpIPredicate::sle;
                                Value keeps =
                                    arith::CmpIOp::create(b, loc, predicate, column, diagonal);
                                return arith::SelectOp::create(b, loc, keeps, v[0], zero);
                              }));
}

void lowbit::onnx::addMovementLowerings(LoweringTable &table) {
  table["Concat"] = concat;
  table["Expand"] = expand;
  table["Pad"] = pad;
  table["Tile"] = tile;
  table["Transpose"] = transpose;
  table["Trilu"] = trilu;
}
