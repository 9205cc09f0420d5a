//===- NonMaxSuppression.cpp - the best boxes that do not overlap -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Per batch and class: takes the best box that is left, then drops every box that
// overlaps it, until none is left. One pass over the boxes per box taken.
//
//===----------------------------------------------------------------------===//
#include "Num.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace lowbit;
using namespace lowbit::onnx;

namespace {
/// A box as its corners, f32.
struct Box {
  Num top, left, bottom, right;
};
} // namespace

static Box readBox(Lowering &l, Scope s, Num batch, Num index) {
  SmallVector<Num> x;
  for (int64_t i = 0; i < 4; ++i)
    x.push_back(s.read(l.in(0), {batch, index, s.index(i)}).to(s.b.getF32Type()));
  if (l.attr("center_point_box", 0) == 0)
    return {x[0].min(x[2]), x[1].min(x[3]), x[0].max(x[2]), x[1].max(x[3])};
  Num width = x[2] / 2, height = x[3] / 2;
  return {x[1] - height, x[0] - width, x[1] + height, x[0] + width};
}

/// Intersection over union above the threshold.
static Num overlaps(const Box &a, const Box &b, Num threshold) {
  Num width = a.right.min(b.right) - a.left.max(b.left);
  Num height = a.bottom.min(b.bottom) - a.top.max(b.top);
  Num common = width * height;
  Num areaA = (a.right - a.left) * (a.bottom - a.top);
  Num areaB = (b.right - b.left) * (b.bottom - b.top);
  Num either = areaA + areaB - common;
  Num proper = (width > 0) & (height > 0) & (common > 0) & (areaA > 0) & (areaB > 0) & (either > 0);
  return proper & (common / either > threshold);
}

/// The number that operand `i` holds, f32 or i64; `otherwise` where it is left out or empty.
static Num setting(Lowering &l, Scope s, unsigned i, Type type, double otherwise) {
  if (!l.has(i) || (l.rank(i) == 1 && l.dims(i)[0].isConstant(0)))
    return s.constant(type, otherwise);
  if (l.rank(i) == 0)
    return s.read(l.in(i), {}).to(type);
  Num length = s.size(l.dim(l.in(i), 0));
  return s.choose(
      length > 0, [&](Scope s) { return s.read(l.in(i), s.index(0)).to(type); },
      [&](Scope s) { return s.constant(type, otherwise); });
}

/// One class of one batch: appends to `selected` from `count` on; both as they are afterwards.
static SmallVector<Value> selectBoxes(Lowering &l, Num batch, Num category, Num most,
                                      Num overlapLimit, Num scoreLimit, bool limitsScores,
                                      Value selected, Value count) {
  Scope s{l.b, l.b.getLoc()};
  Type i1 = l.b.getI1Type(), i64 = l.b.getI64Type();
  OpFoldResult boxes = l.dim(l.in(0), 1);
  Value left = tabulate(l, {boxes}, i1, [&](Scope s, ArrayRef<Num> at) {
    Num score = s.read(l.in(1), {batch, category, at[0]});
    return limitsScores ? score.to(s.b.getF32Type()) > scoreLimit : s.constant(i1, 1);
  });
  // As many turns as boxes may be taken; those after the last box do nothing.
  SmallVector<Value> initial = {selected, count, left, s.num(l.scalarInt(i1, 1))};
  auto loop = scf::ForOp::create(l.b, s.index(0), most, s.index(1), initial);
  loop.getBody()->clear();
  l.b.setInsertionPointToStart(loop.getBody());
  ValueRange state = loop.getRegionIterArgs();
  auto step = scf::IfOp::create(l.b, state.getTypes(), state[3], /*withElseRegion=*/true);
  scf::YieldOp::create(l.b, step.getResults());
  Block &turn = step.getThenRegion().front(), &idle = step.getElseRegion().front();
  turn.clear(), idle.clear();
  l.b.setInsertionPointToStart(&idle);
  scf::YieldOp::create(l.b, state);
  l.b.setInsertionPointToStart(&turn);
  // The best that is left; the first of equal ones.
  Value alive = state[2];
  Num none = s.index(-1), least = s.constant(l.b.getF32Type(), 0);
  auto best = s.loop(s.size(boxes), {none, least},
                     [&](Scope s, Num i, ArrayRef<Num> so) -> SmallVector<Num> {
                       Num score = s.read(l.in(1), {batch, category, i}).to(s.b.getF32Type());
                       Num better = s.read(alive, i) & ((so[0] == -1) | (score > so[1]));
                       return {better.select(i, so[0]), better.select(score, so[1])};
                     });
  Num found = best[0] >= 0, at = best[0].max(0), total = s.num(state[1]);
  // Where none is left this writes an entry that does not count; there is room: no turn has been
  // used up.
  Value grown = state[0];
  SmallVector<Num> entry = {batch, category, at};
  for (auto [column, value] : llvm::enumerate(entry))
    grown = tensor::InsertOp::create(l.b, value.to(i64).value(), grown,
                                     ValueRange{total, s.index(column)});
  Box winner = readBox(l, s, batch, at);
  Value rest = tabulate(l, {boxes}, i1, [&](Scope s, ArrayRef<Num> which) {
    Num keep = s.read(alive, which[0]) & !(which[0] == at);
    return s.choose(
        keep,
        [&](Scope s) { return !overlaps(winner, readBox(l, s, batch, which[0]), overlapLimit); },
        [&](Scope s) { return s.constant(i1, 0); });
  });
  Num one = found.select(s.index(1), s.index(0));
  scf::YieldOp::create(l.b, ValueRange{grown, total + one, rest, found});
  l.b.setInsertionPointAfter(loop);
  return {loop.getResult(0), loop.getResult(1)};
}

static LogicalResult nonMaxSuppression(Lowering &l) {
  Type f32 = l.b.getF32Type(), i64 = l.b.getI64Type();
  Value boxes = l.in(0), scores = l.in(1);
  Scope s{l.b, l.b.getLoc()};
  Num batches = s.size(l.dim(boxes, 0)), count = s.size(l.dim(boxes, 1));
  Num classes = s.size(l.dim(scores, 1));
  Num fits = (batches == s.size(l.dim(scores, 0))) & (count == s.size(l.dim(scores, 2))) &
             (s.size(l.dim(boxes, 2)) == 4);
  l.check(fits, "boxes and scores do not fit together");
  batches = fits.select(batches, s.index(0));
  Num most = setting(l, s, 2, i64, 0).toIndex().max(0).min(count);
  Num overlapLimit = setting(l, s, 3, f32, 0), scoreLimit = setting(l, s, 4, f32, 0);
  Value room = batches * classes * most;
  Value selected = l.empty({room, l.index(3)}, i64);
  Value zero = s.index(0), one = s.index(1);
  auto nest = scf::buildLoopNest(
      l.b, l.b.getLoc(), {zero, zero}, {batches, classes}, {one, one}, {selected, zero},
      [&](OpBuilder &, Location, ValueRange at, ValueRange state) -> scf::ValueVector {
        SmallVector<Value> next = selectBoxes(l, s.num(at[0]), s.num(at[1]), most, overlapLimit,
                                              scoreLimit, l.has(4), state[0], state[1]);
        return {next[0], next[1]};
      });
  return l.replace(
      l.slice(nest.results[0], {l.index(0), l.index(0)}, {nest.results[1], l.index(3)}));
}

void lowbit::onnx::addNonMaxSuppressionLowerings(LoweringTable &table) {
  table["NonMaxSuppression"] = nonMaxSuppression;
}
