//===- AttentionMask.cpp - which keys a query sees --------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Attention.h"
#include "Reduction.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

Value lowbit::onnx::softcapped(OpBuilder &b, Location loc, Value x, double cap) {
  if (!(cap > 0))
    return x;
  Value limit = arith::ConstantOp::create(b, loc, b.getFloatAttr(x.getType(), cap));
  Value bent = math::TanhOp::create(b, loc, arith::DivFOp::create(b, loc, x, limit));
  return arith::MulFOp::create(b, loc, bent, limit);
}

void AttentionMask::broadcastMask(ArrayRef<OpFoldResult> sizes) {
  if (!l.has(3))
    return;
  mask = l.in(3);
  Dims dims = l.dims(3);
  unsigned rank = dims.size();
  Type type = l.element(3);
  if (!isa<FloatType>(type) && !type.isInteger(1)) { // Integers have no minus infinity.
    Type from = type;
    mask = l.parallel(mask, l.b.getMultiDimIdentityMap(rank), l.sizes(mask), wide,
                      [&](OpBuilder &b, Location loc, ValueRange s) {
                        return castScalar(b, loc, s[0], from, wide);
                      });
    type = wide;
  }
  if (dims.back() != k.sequence) {
    // Keys that the mask does not reach are masked.
    OpFoldResult own = l.dim(mask, rank - 1), room = l.max(l.sub(sizes[4], own), l.index(0));
    l.check(arith::CmpIOp::create(l.b, arith::CmpIPredicate::sle, l.value(own), l.value(sizes[4])),
            "attn_mask has more columns than there are keys");
    Sizes cut = l.sizes(mask), low(rank, l.index(0)), high(rank, l.index(0));
    cut[rank - 1] = l.min(own, sizes[4]);
    mask = l.slice(mask, low, cut);
    high[rank - 1] = room;
    mask = l.pad(mask, low, high, extremum(l, type, false, false)); // false or minus infinity
    dims.back() = k.sequence;
  }
  Dims to = {q.batch, q.heads, q.sequence, k.sequence};
  Sizes toSizes = {sizes[0], l.mul(sizes[1], sizes[2]), sizes[3], sizes[4]};
  AffineMap four = l.broadcastMap(mask, dims, to, toSizes);
  rank = four.getNumResults();
  // Heads are two of the five loops.
  SmallVector<AffineExpr> exprs;
  for (unsigned i = 0; i < rank; ++i) {
    auto position = dyn_cast<AffineDimExpr>(four.getResult(i));
    if (!position) {
      exprs.push_back(four.getResult(i));
    } else if (position.getPosition() == 1) {
      exprs.push_back(l.d(1));
      if (!group.isConstant(1)) {
        exprs.push_back(l.d(2));
        Dims from, split;
        Sizes own = l.sizes(mask), parts;
        ArrayRef<SymbolicExpr> all = to;
        for (unsigned j = 0; j < rank; ++j) {
          bool moves = isa<AffineDimExpr>(four.getResult(j));
          SymbolicExpr here = moves ? all[4 - rank + j] : SymbolicExpr(1);
          from.push_back(here);
          if (j != i) {
            split.push_back(here);
            parts.push_back(own[j]);
            continue;
          }
          split.append({k.heads, group});
          parts.append({sizes[1], sizes[2]});
        }
        mask = l.reshape(mask, from, split, parts);
      }
    } else {
      unsigned at = position.getPosition();
      exprs.push_back(l.d(at == 0 ? 0 : at + 1));
    }
  }
  maskMap = l.mapOf(5, exprs);
}

LogicalResult AttentionMask::prepare(ArrayRef<OpFoldResult> sizes) {
  causal = l.attr("is_causal", 0) == 1;
  left = l.attr("left_window_size", -1), right = l.attr("right_window_size", -1);
  if (left < -1 || right < -1)
    return l.unsupported("a negative window size other than -1");
  broadcastMask(sizes);
  allQueries = sizes[3];
  if (lengths) {
    Type element = cast<RankedTensorType>(lengths.getType()).getElementType();
    Value greatest = reduceOver(l, lengths, {0}, l.scalarInt(element, 0),
                                [](OpBuilder &b, Location loc, Value acc, Value x) -> Value {
                                  return arith::MaxSIOp::create(b, loc, acc, x);
                                });
    Value number = tensor::ExtractOp::create(l.b, greatest, ValueRange());
    longest = arith::IndexCastOp::create(l.b, l.b.getIndexType(), number).getResult();
  }
  return success();
}

OpFoldResult AttentionMask::keysBefore(OpFoldResult query, OpFoldResult keys) {
  OpFoldResult end = lengths ? l.min(longest, keys) : keys;
  if (causal) {
    OpFoldResult before = lengths ? l.sub(longest, allQueries) : past;
    end = l.max(l.min(l.add(before, query), end), l.index(0));
  }
  return end;
}

Value AttentionMask::apply(Value raw, Value factor, OpFoldResult first) {
  double softcap = onnx::getFloat(l.op, "softcap", 0);
  Sizes sizes = l.sizes(raw);
  SmallVector<Value> inputs = {raw};
  SmallVector<AffineMap> maps = {l.b.getMultiDimIdentityMap(5)};
  if (mask) { // Of these queries and keys.
    Sizes part = l.sizes(mask), offsets(part.size(), l.index(0));
    for (auto [i, expr] : llvm::enumerate(maskMap.getResults())) {
      auto loop = dyn_cast<AffineDimExpr>(expr);
      if (!loop || loop.getPosition() < 3)
        continue;
      part[i] = sizes[loop.getPosition()];
      if (loop.getPosition() == 3)
        offsets[i] = first;
    }
    inputs.push_back(l.slice(mask, offsets, part));
    maps.push_back(maskMap);
  }
  if (lengths) {
    inputs.push_back(lengths);
    maps.push_back(l.mapOf(5, {l.d(0)}));
  }
  Value low = extremum(l, wide, false, false), start = l.value(first);
  Value offset = l.value(past), queries = l.value(allQueries);
  Value leftSize = l.value(l.index(left)), rightSize = l.value(l.index(right));
  Type maskType = mask ? cast<RankedTensorType>(mask.getType()).getElementType() : Type();
  return l.parallel(
      inputs, maps, sizes, wide, [&](OpBuilder &b, Location loc, ValueRange s) -> Value {
        Value x = softcapped(b, loc, arith::MulFOp::create(b, loc, s[0], factor), softcap);
        if (mask && maskType.isInteger(1)) {
          x = arith::SelectOp::create(b, loc, s[1], x, low);
        } else if (mask) {
          Value bias = castScalar(b, loc, s[1], maskType, wide);
          Value never = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, bias, low);
          x = arith::SelectOp::create(b, loc, never, low, arith::AddFOp::create(b, loc, x, bias));
        }
        if (!causal && left < 0 && right < 0 && !lengths)
          return x;
        Value key = linalg::IndexOp::create(b, loc, 4), query = linalg::IndexOp::create(b, loc, 3);
        query = arith::AddIOp::create(b, loc, query, start);
        Value before = offset, seen;
        auto require = [&](arith::CmpIPredicate predicate, Value a, Value c) {
          Value holds = arith::CmpIOp::create(b, loc, predicate, a, c);
          seen = seen ? arith::AndIOp::create(b, loc, seen, holds).getResult() : holds;
        };
        if (lengths) {
          Value length = arith::IndexCastOp::create(b, loc, b.getIndexType(), s.back());
          before = arith::SubIOp::create(b, loc, length, queries);
          require(arith::CmpIPredicate::slt, key, length);
        }
        Value position = arith::AddIOp::create(b, loc, query, before);
        if (causal)
          require(arith::CmpIPredicate::sle, key, position);
        Value distance = arith::SubIOp::create(b, loc, position, key);
        if (left >= 0)
          require(arith::CmpIPredicate::sle, distance, leftSize);
        if (right >= 0)
          require(arith::CmpIPredicate::sge, arith::AddIOp::create(b, loc, distance, rightSize),
                  arith::ConstantIndexOp::create(b, loc, 0));
        return arith::SelectOp::create(b, loc, seen, x, low);
      });
}
