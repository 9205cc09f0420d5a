//===- LinearAttention.cpp - recurrences over the sequence ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "Heads.h"
#include "Reduction.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include <cmath>

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

/// One token of `tensor` [batch, sequence, ...]: the dim stays, with size 1.
static Value token(Lowering &l, Value tensor, Value at) {
  Sizes sizes = l.sizes(tensor), offsets(sizes.size(), l.index(0));
  sizes[1] = l.index(1);
  offsets[1] = at;
  return l.slice(tensor, offsets, sizes);
}

static void matchTokens(Lowering &l, Heads &x, Heads &y) {
  matchBatch(l, x, y);
  matchSequence(l, x, y);
}

namespace {
/// The state [batch, head, d, m] is carried from token to token in f32 (or f64).
struct Recurrence {
  Lowering &l;
  Type wide;
  Heads q, k, v;
  Value decay, beta; ///< Null where there is none.
  AffineMap decayMap,
      betaMap; ///< How they are read from (batch, sequence, head, d) and (batch, sequence, head).

  AffineMap map(ArrayRef<AffineExpr> exprs, unsigned loops) { return l.mapOf(loops, exprs); }
  Value wider(OpBuilder &b, Location loc, Value x) {
    return castScalar(b, loc, x, x.getType(), wide);
  }
  Value decayed(Value state, Value at);
  Value corrected(Value state, Value at, Sizes sizes);
  Value written(Value state, Value at, Value value);
  Value read(Value state, Value at, Sizes sizes);
};
} // namespace

// The state is updated in place: it is the output of each op that changes it.
Value Recurrence::decayed(Value state, Value at) {
  AffineExpr zero = l.b.getAffineConstantExpr(0);
  AffineMap from = decayMap.compose(map({l.d(0), zero, l.d(1), l.d(2)}, 4));
  return l.generic(token(l, decay, at), state, {from, l.b.getMultiDimIdentityMap(4)},
                   SmallVector<IteratorType>(4, IteratorType::parallel),
                   [&](OpBuilder &b, Location loc, ValueRange s) {
                     Value factor = math::ExpOp::create(b, loc, wider(b, loc, s[0]));
                     linalg::YieldOp::create(
                         b, loc, arith::MulFOp::create(b, loc, s[1], factor).getResult());
                   });
}

/// What is written, [batch, head, m]: the value, or beta times what the state does not say of it
/// yet.
Value Recurrence::corrected(Value state, Value at, Sizes sizes) {
  AffineExpr zero = l.b.getAffineConstantExpr(0);
  AffineMap row = map({l.d(0), zero, l.d(1), l.d(2)}, 3);
  Value value = token(l, v.tensor, at);
  Sizes own = {sizes[0], sizes[1], sizes[3]};
  if (!beta)
    return l.parallel(value, row, own, wide, [&](OpBuilder &b, Location loc, ValueRange s) {
      return wider(b, loc, s[0]);
    });
  SmallVector<IteratorType> iterators(4, IteratorType::parallel);
  iterators[2] = IteratorType::reduction;
  Value retrieved = l.generic({token(l, k.tensor, at), state}, l.filled(own, l.scalar(wide, 0)),
                              {map({l.d(0), zero, l.d(1), l.d(2)}, 4),
                               l.b.getMultiDimIdentityMap(4), map({l.d(0), l.d(1), l.d(3)}, 4)},
                              iterators, multiplyAdd);
  AffineMap factor = betaMap.compose(map({l.d(0), zero, l.d(1)}, 3));
  return l.parallel({value, retrieved, token(l, beta, at)},
                    {row, l.b.getMultiDimIdentityMap(3), factor}, own, wide,
                    [&](OpBuilder &b, Location loc, ValueRange s) -> Value {
                      Value missing = arith::SubFOp::create(b, loc, wider(b, loc, s[0]), s[1]);
                      return arith::MulFOp::create(b, loc, wider(b, loc, s[2]), missing);
                    });
}

Value Recurrence::written(Value state, Value at, Value value) {
  AffineExpr zero = l.b.getAffineConstantExpr(0);
  return l.generic({token(l, k.tensor, at), value}, state,
                   {map({l.d(0), zero, l.d(1), l.d(2)}, 4), map({l.d(0), l.d(1), l.d(3)}, 4),
                    l.b.getMultiDimIdentityMap(4)},
                   SmallVector<IteratorType>(4, IteratorType::parallel),
                   [&](OpBuilder &b, Location loc, ValueRange s) {
                     Value product = arith::MulFOp::create(b, loc, wider(b, loc, s[0]), s[1]);
                     linalg::YieldOp::create(
                         b, loc, arith::AddFOp::create(b, loc, s[2], product).getResult());
                   });
}

/// [batch, head, group, m], unscaled. Loops: batch, head, group, d, m.
Value Recurrence::read(Value state, Value at, Sizes sizes) {
  AffineExpr zero = l.b.getAffineConstantExpr(0);
  SmallVector<IteratorType> iterators(5, IteratorType::parallel);
  iterators[3] = IteratorType::reduction;
  Value query = token(l, q.tensor, at);
  Sizes out = {sizes[0], sizes[1], l.dim(query, 3), sizes[3]};
  return l.generic({query, state}, l.filled(out, l.scalar(wide, 0)),
                   {map({l.d(0), zero, l.d(1), l.d(2), l.d(3)}, 5),
                    map({l.d(0), l.d(1), l.d(3), l.d(4)}, 5),
                    map({l.d(0), l.d(1), l.d(2), l.d(4)}, 5)},
                   iterators, multiplyAdd);
}

static LogicalResult linearAttention(Lowering &l) {
  Type element = l.resultType().getElementType(), wide = accumulator(element);
  int64_t heads = l.attr("q_num_heads", 0), kvHeads = l.attr("kv_num_heads", 0);
  Recurrence r{l,
               wide,
               splitLastDim(l, 0, heads),
               splitLastDim(l, 1, kvHeads),
               splitLastDim(l, 2, kvHeads),
               {},
               {},
               {},
               {}};
  Heads past;
  if (l.has(3))
    past = fourDims(l, 3);
  auto match = [&](Heads &x, unsigned xDim, SymbolicExpr &xSize, unsigned pastDim,
                   SymbolicExpr &pastSize) {
    if (xSize == pastSize)
      return;
    l.equalize(x.tensor, xDim, xSize, past.tensor, pastDim, pastSize,
               "the head sizes of inputs and past_state");
    xSize = pastSize = l.shapes.min(xSize, pastSize);
  };
  // Twice: what is compared later may cut what was compared before.
  for (int round = 0; round < 2; ++round) {
    matchTokens(l, r.q, r.k);
    matchTokens(l, r.k, r.v);
    matchTokens(l, r.q, r.v);
    matchSizes(l, r.q, r.k);
    if (!past.tensor)
      continue;
    matchBatch(l, past, r.k);
    match(r.k, 3, r.k.size, 2, past.sequence);
    match(r.v, 3, r.v.size, 3, past.size);
  }
  SymbolicExpr group(heads / kvHeads);
  splitGroups(l, r.q, r.k.heads, group);
  Sizes keySizes = l.sizes(r.k.tensor);
  Sizes sizes = {keySizes[0], l.index(kvHeads), keySizes[3], l.dim(r.v.tensor, 3)};
  Dims every = {r.k.batch, r.k.sequence, r.k.heads, r.k.size};
  if (l.has(4)) { // One number for each head or for each of its elements.
    Heads decay = splitLastDim(l, 4, kvHeads);
    r.decayMap = l.broadcastMap(
        decay.tensor, {decay.batch, decay.sequence, decay.heads, decay.size}, every, keySizes);
    r.decay = decay.tensor;
  }
  if (l.has(5)) { // One for each head or one for all.
    Sizes three(keySizes.begin(), keySizes.begin() + 3);
    Dims to(every.begin(), every.begin() + 3);
    r.beta = l.in(5);
    r.betaMap = l.broadcastMap(r.beta, l.dims(5), to, three);
  }
  for (AffineMap map : {r.decayMap, r.betaMap})
    if (map && isa<AffineConstantExpr>(map.getResult(1)) && !r.k.sequence.isConstant(1))
      return l.unsupported("a decay or beta of one token for all");
  Value state;
  if (past.tensor) {
    Type from = l.element(3);
    state = l.parallel(past.tensor, l.b.getMultiDimIdentityMap(4), sizes, wide,
                       [&](OpBuilder &b, Location loc, ValueRange s) {
                         return castScalar(b, loc, s[0], from, wide);
                       });
  } else {
    state = l.filled(sizes, l.scalar(wide, 0));
  }
  double given = onnx::getFloat(l.op, "scale", 0);
  Value scale;
  if (given != 0) {
    scale = l.scalar(wide, given);
  } else {
    Value size = arith::IndexCastOp::create(l.b, l.b.getI64Type(), l.value(sizes[2]));
    Value root = math::SqrtOp::create(l.b, arith::SIToFPOp::create(l.b, wide, size));
    scale = arith::DivFOp::create(l.b, l.scalar(wide, 1), root);
    if (std::optional<int64_t> known = r.k.size.constant())
      scale = l.scalar(wide, 1 / std::sqrt((double)*known));
  }
  OpFoldResult length = keySizes[1], groups = l.index(heads / kvHeads);
  Value outputs = l.empty({sizes[0], length, sizes[1], groups, sizes[3]}, element);
  auto loop = scf::ForOp::create(
      l.b, l.value(l.index(0)), l.value(length), l.value(l.index(1)), ValueRange{state, outputs},
      [&](OpBuilder &b, Location loc, Value at, ValueRange carried) {
        OpBuilder::InsertionGuard guard(l.b);
        l.b.setInsertionPoint(b.getInsertionBlock(), b.getInsertionPoint());
        Value now = carried[0];
        if (r.decay)
          now = r.decayed(now, at);
        now = r.written(now, at, r.corrected(now, at, sizes));
        Value y = r.read(now, at, sizes);
        Sizes part = {sizes[0], l.index(1), sizes[1], groups, sizes[3]};
        Value row = l.parallel(y, l.mapOf(5, {l.d(0), l.d(2), l.d(3), l.d(4)}), part, element,
                               [&](OpBuilder &b, Location loc, ValueRange s) {
                                 Value scaled = arith::MulFOp::create(b, loc, s[0], scale);
                                 return castScalar(b, loc, scaled, wide, element);
                               });
        Sizes offsets(5, l.index(0));
        offsets[1] = at;
        Value all = tensor::InsertSliceOp::create(l.b, row, carried[1], offsets, part,
                                                  Sizes(5, l.index(1)));
        scf::YieldOp::create(l.b, ValueRange{now, all});
      });
  if (l.usesResult(1)) {
    Type to = l.resultType(1).getElementType();
    if (failed(l.replace(1, narrow(l, loop.getResult(0), to))))
      return failure();
  }
  Sizes merged = {sizes[0], length, l.mul(l.mul(sizes[1], groups), sizes[3])};
  Dims dims = {r.q.batch, r.q.sequence, r.k.heads, group, r.v.size};
  return l.replace(fitResult(l, loop.getResult(1), dims, merged, 0));
}

/// A depthwise convolution over what came before and now; loops: batch, channel, tap, position.
static LogicalResult causalConv(Lowering &l) {
  Type element = l.resultType().getElementType(), sum = accumulator(element);
  if (!isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  Value x = l.in(0), w = l.in(1), state = l.has(3) ? l.in(3) : Value();
  const Dims &dims = l.dims(0);
  l.equalize(x, 1, dims[1], w, 0, l.dims(1)[0], "the channels of input and weight");
  if (state) {
    l.equalize(x, 0, dims[0], state, 0, l.dims(3)[0], "the batch sizes of input and past_state");
    l.equalize(x, 1, dims[1], state, 1, l.dims(3)[1], "the channels of input and past_state");
  }
  Sizes sizes = l.sizes(x);
  OpFoldResult taps = l.dim(w, 2), length = sizes[2],
               before = l.max(l.sub(taps, l.index(1)), l.index(0));
  Sizes whole = {sizes[0], sizes[1], l.add(before, length)}, offsets(3, l.index(0));
  Value padded;
  if (state) {
    Value own = state; // Of the length that the weight says, or the run fails.
    OpFoldResult found = l.dim(state, 2);
    if (!getConstantIntValue(found) || getConstantIntValue(found) != getConstantIntValue(before))
      l.check(arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, l.value(found), l.value(before)),
              "the length of past_state is not one less than the kernel's");
    padded = l.filled(whole, l.scalar(element, 0));
    Sizes cut = l.sizes(own);
    cut[2] = l.min(found, before);
    padded = l.insert(l.slice(own, offsets, cut), padded, offsets);
  } else {
    padded = l.filled(whole, l.scalar(element, 0));
  }
  Sizes behind = offsets;
  behind[2] = before;
  padded = l.insert(x, padded, behind);
  Value init;
  if (l.has(2)) {
    Value bias = l.in(2);
    l.equalize(bias, 0, l.dims(2)[0], x, 1, dims[1], "the channels of input and bias");
    init = l.parallel(bias, l.mapOf(3, {l.d(1)}), sizes, sum,
                      [&](OpBuilder &b, Location loc, ValueRange s) {
                        return castScalar(b, loc, s[0], element, sum);
                      });
  } else {
    init = l.filled(sizes, l.scalar(sum, 0));
  }
  SmallVector<IteratorType> iterators(4, IteratorType::parallel);
  iterators[2] = IteratorType::reduction;
  Value y = l.generic({padded, w}, init,
                      {l.mapOf(4, {l.d(0), l.d(1), l.d(2) + l.d(3)}),
                       l.mapOf(4, {l.d(1), l.b.getAffineConstantExpr(0), l.d(2)}),
                       l.mapOf(4, {l.d(0), l.d(1), l.d(3)})},
                      iterators, multiplyAdd);
  bool swish = onnx::getString(l.op, "activation", "none") != "none";
  y = l.parallel(y, l.b.getMultiDimIdentityMap(3), sizes, element,
                 [&](OpBuilder &b, Location loc, ValueRange s) {
                   Value v = s[0];
                   if (swish) {
                     Value one = arith::ConstantOp::create(b, loc, b.getFloatAttr(sum, 1));
                     Value e = math::ExpOp::create(b, loc, arith::NegFOp::create(b, loc, v));
                     v = arith::DivFOp::create(b, loc, v, arith::AddFOp::create(b, loc, one, e));
                   }
                   return castScalar(b, loc, v, sum, element);
                 });
  if (l.usesResult(1)) {
    Sizes last = whole, from(3, l.index(0));
    last[2] = before;
    from[2] = length;
    if (failed(l.replace(1, l.slice(padded, from, last))))
      return failure();
  }
  return l.replace(y);
}

void lowbit::onnx::addLinearAttentionLowerings(LoweringTable &table) {
  table["CausalConvWithState"] = causalConv;
  table["LinearAttention"] = linearAttention;
}
