//===- Heads.cpp - operands with attention heads ----------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Heads.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

Heads lowbit::onnx::fourDims(Lowering &l, unsigned i) {
  const Dims &dims = l.dims(i);
  return {l.in(i), false, dims[0], dims[1], dims[2], dims[3]};
}

Heads lowbit::onnx::splitLastDim(Lowering &l, unsigned i, int64_t heads) {
  const Dims &dims = l.dims(i);
  Heads split{{}, true, dims[0], SymbolicExpr(heads), dims[1], l.shapes.floorDiv(dims[2], heads)};
  Value tensor = l.in(i);
  Sizes sizes = {l.dim(tensor, 0), l.dim(tensor, 1), l.index(heads),
                 l.div(l.dim(tensor, 2), l.index(heads))};
  split.tensor =
      l.reshape(tensor, dims, {split.batch, split.sequence, split.heads, split.size}, sizes);
  return split;
}

static unsigned headDim(const Heads &x) { return x.sequenceFirst ? 2 : 1; }
static unsigned sequenceDim(const Heads &x) { return x.sequenceFirst ? 1 : 2; }

/// What both dims are after equalize: at the run they may be smaller than each was said to be.
static void match(Lowering &l, Heads &x, unsigned xDim, SymbolicExpr &xSize, Heads &y,
                  unsigned yDim, SymbolicExpr &ySize, StringRef what) {
  if (xSize == ySize)
    return;
  l.equalize(x.tensor, xDim, xSize, y.tensor, yDim, ySize, what);
  xSize = ySize = l.shapes.min(xSize, ySize);
}

void lowbit::onnx::matchBatch(Lowering &l, Heads &x, Heads &y) {
  match(l, x, 0, x.batch, y, 0, y.batch, "the batch sizes");
}

void lowbit::onnx::matchSequence(Lowering &l, Heads &x, Heads &y) {
  match(l, x, sequenceDim(x), x.sequence, y, sequenceDim(y), y.sequence,
        "the lengths of keys and values");
}

void lowbit::onnx::matchHeads(Lowering &l, Heads &x, Heads &y, StringRef what) {
  match(l, x, headDim(x), x.heads, y, headDim(y), y.heads, what);
}

void lowbit::onnx::matchSizes(Lowering &l, Heads &x, Heads &y) {
  match(l, x, 3, x.size, y, 3, y.size, "the head sizes");
}

Value lowbit::onnx::fitResult(Lowering &l, Value tensor, const Dims &from, Sizes sizes,
                              unsigned result) {
  const Dims &to = l.resultDims(result);
  for (auto [size, dim] : llvm::zip(sizes, to))
    if (std::optional<int64_t> constant = dim.constant())
      size = l.index(*constant);
  return l.reshape(tensor, from, to, sizes);
}

void lowbit::onnx::repeatHeads(Lowering &l, Heads &x, const Heads &like) {
  OpFoldResult zero = l.index(0), one = l.index(1);
  Value own = l.value(l.dim(x.tensor, headDim(x))),
        wanted = l.value(l.dim(like.tensor, headDim(like)));
  Value ratio = arith::DivUIOp::create(l.b, wanted, l.value(l.max(own, one)));
  Value covered = arith::MulIOp::create(l.b, ratio, own);
  l.check(arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, covered, wanted),
          "the query heads cannot share the key heads evenly");
  ratio = l.value(l.max(ratio, one));
  Value last = l.value(l.max(l.sub(own, one), zero));
  Value some = arith::CmpIOp::create(l.b, arith::CmpIPredicate::sgt, own, l.value(zero));
  Sizes sizes = l.sizes(x.tensor);
  sizes[headDim(x)] = wanted;
  Type element = cast<RankedTensorType>(x.tensor.getType()).getElementType();
  Value fallback = l.scalarInt(element, 0), source = x.tensor;
  unsigned dim = headDim(x);
  x.tensor = l.parallel({}, {}, sizes, element, [&](OpBuilder &b, Location loc, ValueRange) {
    SmallVector<Value> at;
    for (unsigned i = 0; i < 4; ++i)
      at.push_back(linalg::IndexOp::create(b, loc, i));
    at[dim] = arith::MinSIOp::create(b, loc, arith::DivUIOp::create(b, loc, at[dim], ratio), last);
    auto guarded = scf::IfOp::create(
        b, loc, some,
        [&](OpBuilder &then, Location loc) {
          scf::YieldOp::create(then, loc,
                               tensor::ExtractOp::create(then, loc, source, at).getResult());
        },
        [&](OpBuilder &otherwise, Location loc) {
          scf::YieldOp::create(otherwise, loc, fallback);
        });
    return guarded.getResult(0);
  });
  x.heads = like.heads;
}

void lowbit::onnx::splitGroups(Lowering &l, Heads &x, const SymbolicExpr &kvHeads,
                               const SymbolicExpr &group) {
  Sizes sizes = l.sizes(x.tensor);
  OpFoldResult groups = l.index(*group.constant());
  OpFoldResult heads = l.div(sizes[headDim(x)], groups);
  Dims from, to;
  Sizes split;
  if (x.sequenceFirst) {
    from = {x.batch, x.sequence, x.heads, x.size};
    to = {x.batch, x.sequence, kvHeads, group, x.size};
    split = {sizes[0], sizes[1], heads, groups, sizes[3]};
  } else {
    from = {x.batch, x.heads, x.sequence, x.size};
    to = {x.batch, kvHeads, group, x.sequence, x.size};
    split = {sizes[0], heads, groups, sizes[2], sizes[3]};
  }
  x.tensor = l.reshape(x.tensor, from, to, split);
}
