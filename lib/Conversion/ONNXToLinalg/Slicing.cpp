//===- Slicing.cpp - Slice and Split ----------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "RuntimeAxes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace lowbit;
using namespace lowbit::onnx;

/// A bound that may count from the end, brought into [low, high].
static OpFoldResult clampBound(Lowering &l, OpFoldResult bound, OpFoldResult size, OpFoldResult low,
                               OpFoldResult high) {
  std::optional<int64_t> constant = getConstantIntValue(bound);
  OpFoldResult at;
  if (constant) {
    // INT64_MIN and INT64_MAX stand for the ends: sums must not wrap.
    int64_t limited = std::clamp<int64_t>(*constant, -(INT64_C(1) << 60), INT64_C(1) << 60);
    at = limited < 0 ? l.add(l.index(limited), size) : l.index(limited);
  } else {
    Value value =
        l.value(l.min(l.max(bound, l.index(-(INT64_C(1) << 60))), l.index(INT64_C(1) << 60)));
    Value negative =
        arith::CmpIOp::create(l.b, arith::CmpIPredicate::slt, value, l.value(l.index(0)));
    Value moved = arith::AddIOp::create(l.b, value, l.value(size));
    at = arith::SelectOp::create(l.b, negative, moved, value).getResult();
  }
  return l.min(l.max(at, low), high);
}

/// Axes or steps that only the run knows: each element is read where it comes from.
static LogicalResult sliceAtRun(Lowering &l) {
  Value input = l.in(0);
  int64_t rank = l.rank(0), count = *l.dims(1)[0].constant();
  Sizes own = l.sizes(input), starts, ends, steps, sizes;
  for (int64_t i = 0; i < count; ++i) {
    starts.push_back(l.entry(1, i));
    ends.push_back(l.entry(2, i));
    steps.push_back(l.has(4) ? l.entry(4, i) : l.index(1));
  }
  std::optional<SmallVector<int64_t>> known =
      l.has(3) ? l.constants(3) : llvm::to_vector(llvm::seq<int64_t>(count));
  std::optional<RuntimeAxes> unknown;
  if (!known)
    unknown.emplace(l, 3, rank);
  auto pick = [&](int64_t d, const Sizes &values, OpFoldResult otherwise) {
    if (unknown)
      return unknown->pick(d, values, otherwise);
    for (auto [axis, value] : llvm::zip(*known, values))
      if ((axis < 0 ? axis + rank : axis) == d)
        return value;
    return otherwise;
  };
  OpFoldResult zero = l.index(0), one = l.index(1), minus = l.index(-1),
               far = l.index(INT64_C(1) << 60);
  SmallVector<Value> first, move;
  for (int64_t d = 0; d < rank; ++d) {
    OpFoldResult size = own[d], start = pick(d, starts, zero), end = pick(d, ends, far);
    Value step = l.value(l.min(l.max(pick(d, steps, one), l.index(-(INT64_C(1) << 60))), far));
    auto choose = [&](Value condition, OpFoldResult x, OpFoldResult y) -> OpFoldResult {
      return arith::SelectOp::create(l.b, condition, l.value(x), l.value(y)).getResult();
    };
    Value some = arith::CmpIOp::create(l.b, arith::CmpIPredicate::ne, step, l.value(zero));
    l.check(some, "a step is 0");
    step = l.value(choose(some, step, one));
    Value back = arith::CmpIOp::create(l.b, arith::CmpIPredicate::slt, step, l.value(zero));
    OpFoldResult last = l.sub(size, one);
    OpFoldResult low = choose(back, minus, zero), high = choose(back, last, size);
    OpFoldResult from = clampBound(l, start, size, low, high),
                 to = clampBound(l, end, size, low, high);
    OpFoldResult room = l.max(choose(back, l.sub(from, to), l.sub(to, from)), zero);
    OpFoldResult length = choose(back, l.sub(zero, step), step);
    sizes.push_back(l.div(l.add(room, l.sub(length, one)), length));
    first.push_back(l.value(from));
    move.push_back(step);
  }
  return l.replace(l.parallel({}, {}, sizes, l.resultType().getElementType(),
                              [&](OpBuilder &b, Location loc, ValueRange) -> Value {
                                SmallVector<Value> at;
                                for (int64_t d = 0; d < rank; ++d) {
                                  Value position = arith::MulIOp::create(
                                      b, loc, linalg::IndexOp::create(b, loc, d), move[d]);
                                  at.push_back(arith::AddIOp::create(b, loc, position, first[d]));
                                }
                                return tensor::ExtractOp::create(b, loc, input, at);
                              }));
}

static LogicalResult slice(Lowering &l) {
  Value input = l.in(0);
  int64_t rank = l.rank(0);
  Sizes own = l.sizes(input), offsets(rank, l.index(0)), sizes = own, strides(rank, l.index(1));
  SmallVector<bool> backwards(rank, false);
  std::optional<int64_t> count = l.dims(1)[0].constant();
  std::optional<SmallVector<int64_t>> axes = l.constants(3), steps = l.constants(4);
  if ((l.has(4) && !steps) || (l.has(3) && !axes))
    return sliceAtRun(l);
  bool anyBackwards = false;
  for (int64_t i = 0; i < *count; ++i) {
    int64_t axis = axes ? (*axes)[i] : i, step = steps ? (*steps)[i] : 1;
    axis += axis < 0 ? rank : 0;
    OpFoldResult size = own[axis], zero = l.index(0);
    OpFoldResult known = l.known(l.resultDims()[axis]);
    if (step > 0) {
      OpFoldResult start = clampBound(l, l.entry(1, i), size, zero, size);
      OpFoldResult length = known;
      if (!length || !getConstantIntValue(length)) {
        OpFoldResult end = clampBound(l, l.entry(2, i), size, zero, size);
        OpFoldResult room = l.max(l.sub(end, start), zero);
        length = l.div(l.add(room, l.index(step - 1)), l.index(step));
      }
      offsets[axis] = start;
      sizes[axis] = length;
      strides[axis] = l.index(step);
      continue;
    }
    // From the start down to, not including, the end, which may lie before the first element.
    anyBackwards = backwards[axis] = true;
    int64_t back = step == INT64_MIN ? INT64_MAX : -step;
    OpFoldResult last = l.sub(size, l.index(1));
    OpFoldResult start = clampBound(l, l.entry(1, i), size, l.index(-1), last);
    OpFoldResult length = known;
    if (!length || !getConstantIntValue(length)) {
      OpFoldResult end = clampBound(l, l.entry(2, i), size, l.index(-1), last);
      OpFoldResult room = l.max(l.sub(start, end), zero);
      back = std::min<int64_t>(back, INT64_C(1) << 60);
      length = l.div(l.add(room, l.index(back - 1)), l.index(back));
    }
    offsets[axis] = start;
    sizes[axis] = length;
    strides[axis] = l.index(-back);
  }
  if (!anyBackwards)
    return l.replace(l.slice(input, offsets, sizes, strides));
  SmallVector<Value> starts, moves;
  for (int64_t i = 0; i < rank; ++i) {
    starts.push_back(l.value(offsets[i]));
    moves.push_back(l.value(strides[i]));
  }
  return l.replace(l.parallel({}, {}, sizes, l.resultType().getElementType(),
                              [&](OpBuilder &b, Location loc, ValueRange) -> Value {
                                SmallVector<Value> at;
                                for (int64_t i = 0; i < rank; ++i) {
                                  Value position = linalg::IndexOp::create(b, loc, i);
                                  position = arith::MulIOp::create(b, loc, position, moves[i]);
                                  at.push_back(arith::AddIOp::create(b, loc, position, starts[i]));
                                }
                                return tensor::ExtractOp::create(b, loc, input, at);
                              }));
}

static LogicalResult split(Lowering &l) {
  Value input = l.in(0);
  int64_t axis = l.axis("axis", 0, l.rank(0)), parts = l.op->getNumResults();
  Sizes own = l.sizes(input);
  OpFoldResult offset = l.index(0);
  if (l.has(1))
    l.expectEntries(1, parts);
  OpFoldResult each = l.div(l.add(own[axis], l.index(parts - 1)), l.index(parts));
  for (int64_t i = 0; i < parts; ++i) {
    OpFoldResult left = l.sub(own[axis], offset);
    OpFoldResult size = l.has(1) ? l.max(l.entry(1, i), l.index(0)) : each;
    // What goes beyond the input is left out; the sum is checked once.
    bool last = i + 1 == parts;
    if (last && l.has(1) && !(getConstantIntValue(size) && getConstantIntValue(left)))
      l.check(arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, l.value(size), l.value(left)),
              "the sizes do not add up to the dim");
    bool provable = getConstantIntValue(size) && getConstantIntValue(left) &&
                    *getConstantIntValue(size) <= *getConstantIntValue(left);
    if (!provable)
      size = last && !l.has(1) ? left : l.min(size, left);
    Sizes offsets(own.size(), l.index(0)), sizes = own;
    offsets[axis] = offset;
    sizes[axis] = size;
    if (failed(l.replace(i, l.slice(input, offsets, sizes))))
      return failure();
    offset = l.add(offset, size);
  }
  return success();
}

void lowbit::onnx::addSlicingLowerings(LoweringTable &table) {
  table["Slice"] = slice;
  table["Split"] = split;
}
