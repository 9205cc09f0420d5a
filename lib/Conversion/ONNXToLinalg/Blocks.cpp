//===- Blocks.cpp - DepthToSpace and its kin, crops, reversal ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

/// Fails the run where dim `d` of operand 0 is no multiple of `factor`; the rest would be left out.
static void checkMultiple(Lowering &l, unsigned d, int64_t factor) {
  if (l.dims(0)[d].constant() || factor == 1)
    return;
  Value rest = arith::RemUIOp::create(l.b, l.value(l.dim(l.in(0), d)), l.value(l.index(factor)));
  l.check(arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, rest, l.value(l.index(0))),
          "dim " + Twine(d) + " is no multiple of " + Twine(factor));
}

static LogicalResult depthToSpace(Lowering &l) {
  int64_t block = l.attr("blocksize", 1);
  bool columnFirst = onnx::getString(l.op, "mode", "DCR") == "CRD";
  Value input = l.in(0);
  Sizes own = l.sizes(input);
  checkMultiple(l, 1, block * block);
  OpFoldResult channels = l.div(own[1], l.index(block * block));
  Sizes sizes = {own[0], channels, l.mul(own[2], l.index(block)), l.mul(own[3], l.index(block))};
  Value depth = l.value(channels), edge = l.value(l.index(block)),
        area = l.value(l.index(block * block));
  return l.replace(l.parallel({}, {}, sizes, l.resultType().getElementType(),
                              [&](OpBuilder &b, Location loc, ValueRange) -> Value {
    auto at = [&](int64_t i) { return linalg::IndexOp::create(b, loc, i).getResult(); };
    Value y = arith::DivUIOp::create(b, loc, at(2), edge), x = arith::DivUIOp::create(b, loc, at(3), edge);
    Value dy = arith::RemUIOp::create(b, loc, at(2), edge), dx = arith::RemUIOp::create(b, loc, at(3), edge);
    Value offset = arith::AddIOp::create(b, loc, arith::MulIOp::create(b, loc, dy, edge), dx);
    Value channel =
        columnFirst
            ? arith::AddIOp::create(b, loc, arith::MulIOp::create(b, loc, at(1), area), offset)
            : arith::AddIOp::create(b, loc, arith::MulIOp::create(b, loc, offset, depth), at(1));
    return tensor::ExtractOp::create(b, loc, input, ValueRange{at(0), channel, y, x});
  }));
}

/// The inverse of depthToSpace.
static LogicalResult spaceToDepth(Lowering &l) {
  int64_t block = l.attr("blocksize", 1);
  bool columnFirst = onnx::getString(l.op, "mode", "DCR") == "CRD";
  Value input = l.in(0);
  Sizes own = l.sizes(input);
  checkMultiple(l, 2, block);
  checkMultiple(l, 3, block);
  Sizes sizes = {own[0], l.mul(own[1], l.index(block * block)), l.div(own[2], l.index(block)),
                 l.div(own[3], l.index(block))};
  Value depth = l.value(own[1]), edge = l.value(l.index(block)), area = l.value(l.index(block * block));
  return l.replace(l.parallel({}, {}, sizes, l.resultType().getElementType(),
                              [&](OpBuilder &b, Location loc, ValueRange) -> Value {
    auto at = [&](int64_t i) { return linalg::IndexOp::create(b, loc, i).getResult(); };
    Value channel, offset;
    if (columnFirst) {
      channel = arith::DivUIOp::create(b, loc, at(1), area);
      offset = arith::RemUIOp::create(b, loc, at(1), area);
    } else {
      channel = arith::RemUIOp::create(b, loc, at(1), depth);
      offset = arith::DivUIOp::create(b, loc, at(1), depth);
    }
    Value y = arith::AddIOp::create(b, loc, arith::MulIOp::create(b, loc, at(2), edge),
                                    arith::DivUIOp::create(b, loc, offset, edge));
    Value x = arith::AddIOp::create(b, loc, arith::MulIOp::create(b, loc, at(3), edge),
                                    arith::RemUIOp::create(b, loc, offset, edge));
    return tensor::ExtractOp::create(b, loc, input, ValueRange{at(0), channel, y, x});
  }));
}

static LogicalResult centerCropPad(Lowering &l) {
  Value input = l.in(0);
  int64_t rank = l.rank(0);
  SmallVector<int64_t> axes = onnx::getInts(l.op, "axes");
  if (!onnx::hasInts(l.op, "axes"))
    axes = llvm::to_vector(llvm::seq<int64_t>(rank));
  Sizes own = l.sizes(input), sizes = own, keep = own;
  Sizes from(rank, l.index(0)), to(rank, l.index(0));
  for (auto [i, axis] : llvm::enumerate(axes)) {
    int64_t d = axis < 0 ? axis + rank : axis;
    sizes[d] = l.max(l.entry(1, i), l.index(0));
    keep[d] = l.min(own[d], sizes[d]);
    from[d] = l.div(l.sub(own[d], keep[d]), l.index(2));
    to[d] = l.div(l.sub(sizes[d], keep[d]), l.index(2));
  }
  Value part = l.slice(input, from, keep);
  return l.replace(l.insert(part, l.filled(sizes, l.scalarInt(l.resultType().getElementType(), 0)), to));
}

static LogicalResult reverseSequence(Lowering &l) {
  Value input = l.in(0), lengths = l.in(1);
  int64_t rank = l.rank(0), batch = l.axis("batch_axis", 1, rank), time = l.axis("time_axis", 0, rank);
  l.equalize(input, batch, l.dims(0)[batch], lengths, 0, l.dims(1)[0], "the batch sizes");
  Sizes sizes = l.sizes(input);
  Value extent = l.value(sizes[time]), one = l.value(l.index(1)), zero = l.value(l.index(0));
  Value yes = tensor::FromElementsOp::create(l.b, RankedTensorType::get({}, l.b.getI1Type()),
                                             ValueRange{l.scalarInt(l.b.getI1Type(), 1)});
  Value fits = l.generic(lengths, yes, {l.b.getMultiDimIdentityMap(1), l.mapOf(1, {})},
                         {utils::IteratorType::reduction}, [&](OpBuilder &b, Location loc, ValueRange v) {
    using P = arith::CmpIPredicate;
    Value length = arith::IndexCastOp::create(b, loc, b.getIndexType(), v[0]);
    Value low = arith::CmpIOp::create(b, loc, P::sge, length, zero);
    Value high = arith::CmpIOp::create(b, loc, P::sle, length, extent);
    Value both = arith::AndIOp::create(b, loc, low, high);
    linalg::YieldOp::create(b, loc, arith::AndIOp::create(b, loc, v[1], both).getResult());
  });
  l.check(tensor::ExtractOp::create(l.b, fits, ValueRange()), "a sequence is longer than the time axis");
  return l.replace(l.parallel({}, {}, sizes, l.resultType().getElementType(),
                              [&](OpBuilder &b, Location loc, ValueRange) -> Value {
    SmallVector<Value> at;
    for (int64_t i = 0; i < rank; ++i)
      at.push_back(linalg::IndexOp::create(b, loc, i));
    Value length = tensor::ExtractOp::create(b, loc, lengths, ValueRange{at[batch]});
    length = arith::IndexCastOp::create(b, loc, b.getIndexType(), length);
    length = arith::MinSIOp::create(b, loc, length, extent);
    Value inside = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, at[time], length);
    Value mirrored = arith::SubIOp::create(b, loc, arith::SubIOp::create(b, loc, length, one), at[time]);
    at[time] = arith::SelectOp::create(b, loc, inside, mirrored, at[time]);
    return tensor::ExtractOp::create(b, loc, input, at);
  }));
}

void lowbit::onnx::addBlockLowerings(LoweringTable &table) {
  table["CenterCropPad"] = centerCropPad;
  table["DepthToSpace"] = depthToSpace;
  table["ReverseSequence"] = reverseSequence;
  table["SpaceToDepth"] = spaceToDepth;
}
