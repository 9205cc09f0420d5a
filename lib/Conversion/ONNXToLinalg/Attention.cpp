//===- Attention.cpp - scaled dot product attention -------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Query heads that share a key head are a dim of their own, so keys and values
// are never repeated. The innermost loop of Q K^T runs over keys (K is transposed
// once), that of P V over the values' elements: both vectorize as they stand.
// Rows are divided by their sum after P V, not before. Queries come in blocks, so
// that memory grows with the keys and not with their product; a block stops at
// the last key that one of its queries sees.
//
//===----------------------------------------------------------------------===//
#include "Attention.h"
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

/// Queries of one block.
static constexpr int64_t blockSize = 32;

namespace {
/// Loop dims of Q K^T and of P V; the last two are (size, key) and (key, size of a value).
enum Loop : unsigned { Batch, Head, Group, Query, Inner, Last };

struct Attention {
  explicit Attention(Lowering &l) : l(l) {}
  Lowering &l;
  Type element, wide; ///< Of Q, and what is computed in.
  Heads q, k, v;      ///< Keys and values with the past in front; Q gets the dim Group behind Head.
  SymbolicExpr group; ///< Query heads per key head.
  OpFoldResult past;  ///< How many keys come before the first query.
  Value lengths;      ///< nonpad_kv_seqlen, null where there is none.
  Value transposed;   ///< Keys as [batch, head, size, key].
  Value factor;       ///< Of the scores.

  LogicalResult run();
  void splitHeads();
  void addPast(Heads &present, unsigned operand, unsigned result);
  /// Q's dim of queries.
  unsigned queryDim() const { return q.sequenceFirst ? 1 : 3; }
  Value scaleFactor();
  Value transposedKeys(OpFoldResult count);
  Value attend(AttentionMask &mask, Value queries, OpFoldResult first, OpFoldResult keys);
  Value attendInBlocks(AttentionMask &mask, OpFoldResult keys);
  LogicalResult giveWeights(Value raw, Value masked, Value powers, Value sums);
  AffineMap map(ArrayRef<unsigned> loops, unsigned count) {
    SmallVector<AffineExpr> exprs;
    for (unsigned loop : loops)
      exprs.push_back(l.d(loop));
    return l.mapOf(count, exprs);
  }
  Value product(Value left, AffineMap leftMap, Value right, AffineMap rightMap, Sizes sizes,
                AffineMap outMap);
};
} // namespace

void Attention::splitHeads() {
  bool flat = l.rank(0) == 3;
  int64_t heads = l.attr("q_num_heads", 0), kvHeads = l.attr("kv_num_heads", 0);
  q = flat ? splitLastDim(l, 0, heads) : fourDims(l, 0);
  k = flat ? splitLastDim(l, 1, kvHeads) : fourDims(l, 1);
  v = flat ? splitLastDim(l, 2, kvHeads) : fourDims(l, 2);
  addPast(k, 4, 1);
  addPast(v, 5, 2);
  if (l.has(6)) {
    Heads batch{l.in(6), false, l.dims(6)[0], {}, {}, {}};
    matchBatch(l, batch, q);
    lengths = batch.tensor;
  }
  // Until nothing changes any more: the second may have cut what the first had compared.
  for (int round = 0; round < 2; ++round) {
    matchBatch(l, k, v);
    matchBatch(l, q, k);
  }
  matchBatch(l, q, v);
  matchHeads(l, k, v, "the numbers of key and value heads");
  matchSequence(l, k, v);
  matchSizes(l, q, k);
  std::optional<int64_t> all = q.heads.constant(), shared = k.heads.constant();
  group = 1;
  if (all && shared) {
    group = *all / *shared;
  } else if (q.heads != k.heads) {
    repeatHeads(l, k, q);
    repeatHeads(l, v, q);
  }
  splitGroups(l, q, k.heads, group);
}

/// Puts the past of operand `operand`, where there is one, in front of the keys or values, and
/// gives result `result`.
void Attention::addPast(Heads &present, unsigned operand, unsigned result) {
  bool cached = l.has(operand), wanted = l.usesResult(result);
  if (!cached && !wanted)
    return;
  if (present.sequenceFirst) {
    present.tensor = l.transpose(present.tensor, {0, 2, 1, 3});
    present.sequenceFirst = false;
  }
  if (cached) {
    Heads before = fourDims(l, operand);
    matchBatch(l, before, present);
    matchHeads(l, before, present, "the heads of keys and past");
    matchSizes(l, before, present);
    Sizes sizes = l.sizes(present.tensor), offsets(4, l.index(0));
    OpFoldResult length = l.dim(before.tensor, 2);
    sizes[2] = l.add(length, sizes[2]);
    Value all = l.empty(sizes, cast<RankedTensorType>(present.tensor.getType()).getElementType());
    all = l.insert(before.tensor, all, offsets);
    offsets[2] = length;
    present.tensor = l.insert(present.tensor, all, offsets);
    present.sequence = l.shapes.add(before.sequence, present.sequence);
  }
  if (wanted) {
    Dims from = {present.batch, present.heads, present.sequence, present.size};
    (void)l.replace(result, fitResult(l, present.tensor, from, l.sizes(present.tensor), result));
  }
}

Value Attention::product(Value left, AffineMap leftMap, Value right, AffineMap rightMap,
                         Sizes sizes, AffineMap outMap) {
  SmallVector<IteratorType> iterators(6, IteratorType::parallel);
  iterators[Inner] = IteratorType::reduction;
  Value init = l.filled(sizes, l.scalar(wide, 0));
  return l.generic({left, right}, init, {leftMap, rightMap, outMap}, iterators, multiplyAdd);
}

Value Attention::scaleFactor() {
  if (auto given = l.op->getAttrOfType<FloatAttr>("scale"))
    return l.scalar(wide, given.getValueAsDouble());
  if (std::optional<int64_t> size = q.size.constant())
    return l.scalar(wide, 1 / std::sqrt((double)*size));
  Value size = arith::IndexCastOp::create(l.b, l.b.getI64Type(), l.value(l.dim(q.tensor, 4)));
  Value root = math::SqrtOp::create(l.b, arith::SIToFPOp::create(l.b, wide, size));
  return arith::DivFOp::create(l.b, l.scalar(wide, 1), root);
}

/// The first `count` keys, read as (batch, head, key, size) or (batch, key, head, size).
Value Attention::transposedKeys(OpFoldResult count) {
  Sizes sizes = l.sizes(k.tensor), part = sizes;
  part[k.sequenceFirst ? 1 : 2] = count;
  Value keys = l.slice(k.tensor, Sizes(4, l.index(0)), part);
  AffineMap from = k.sequenceFirst ? map({0, 3, 1, 2}, 4) : map({0, 1, 3, 2}, 4);
  Type type = cast<RankedTensorType>(k.tensor.getType()).getElementType();
  return l.parallel(keys, from, {sizes[0], sizes[k.sequenceFirst ? 2 : 1], sizes[3], count}, wide,
                    [&](OpBuilder &b, Location loc, ValueRange s) {
                      return castScalar(b, loc, s[0], type, wide);
                    });
}

LogicalResult Attention::giveWeights(Value raw, Value masked, Value powers, Value sums) {
  int64_t mode = l.attr("qk_matmul_output_mode", 0);
  AffineMap identity = l.b.getMultiDimIdentityMap(5), row = map({0, 1, 2, 3}, 5);
  double softcap = onnx::getFloat(l.op, "softcap", 0);
  Value shown = masked;
  if (mode < 2)
    shown = l.parallel(raw, identity, l.sizes(raw), wide,
                       [&](OpBuilder &b, Location loc, ValueRange s) {
                         Value x = arith::MulFOp::create(b, loc, s[0], factor);
                         return mode == 1 ? softcapped(b, loc, x, softcap) : x;
                       });
  if (mode == 3)
    shown = l.parallel({powers, sums}, {identity, row}, l.sizes(powers), wide,
                       [](OpBuilder &b, Location loc, ValueRange s) -> Value {
                         return arith::DivFOp::create(b, loc, s[0], s[1]);
                       });
  Sizes sizes = l.sizes(shown), merged = {sizes[0], l.mul(sizes[1], sizes[2]), sizes[3], sizes[4]};
  Dims from = {q.batch, k.heads, group, q.sequence, k.sequence};
  return l.replace(3, fitResult(l, narrow(l, shown, element), from, merged, 3));
}

/// The rows of `queries`, those from `first` on, over the first `keys` keys; dims in the order of
/// the result, heads and groups apart.
Value Attention::attend(AttentionMask &mask, Value queries, OpFoldResult first, OpFoldResult keys) {
  Sizes keySizes = l.sizes(transposed), querySizes = l.sizes(queries), part = keySizes;
  part[3] = keys;
  Value seen = l.slice(transposed, Sizes(4, l.index(0)), part);
  Sizes sizes = {querySizes[0], keySizes[1], querySizes[q.sequenceFirst ? 3 : 2],
                 querySizes[queryDim()], keys};
  AffineMap queryMap = q.sequenceFirst ? map({Batch, Query, Head, Group, Inner}, 6)
                                       : map({Batch, Head, Group, Query, Inner}, 6);
  Value raw = product(queries, queryMap, seen, map({Batch, Head, Inner, Last}, 6), sizes,
                      map({Batch, Head, Group, Query, Last}, 6));
  Value masked = mask.apply(raw, factor, first);

  // A row of which every key is masked gives zeros.
  Value low = extremum(l, wide, false, false), zero = l.scalar(wide, 0), one = l.scalar(wide, 1);
  AffineMap identity = l.b.getMultiDimIdentityMap(5), row = map({0, 1, 2, 3}, 5);
  Value greatest =
      reduceOver(l, masked, {4}, low, [](OpBuilder &b, Location loc, Value acc, Value x) -> Value {
        return arith::MaximumFOp::create(b, loc, acc, x);
      });
  Sizes rows(sizes.begin(), sizes.begin() + 4);
  AffineMap rowIdentity = l.b.getMultiDimIdentityMap(4);
  Value shift = l.parallel(
      greatest, rowIdentity, rows, wide, [&](OpBuilder &b, Location loc, ValueRange s) -> Value {
        Value none = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, s[0], low);
        return arith::SelectOp::create(b, loc, none, zero, s[0]);
      });
  Value powers =
      l.parallel({masked, shift}, {identity, row}, sizes, wide,
                 [](OpBuilder &b, Location loc, ValueRange s) -> Value {
                   return math::ExpOp::create(b, loc, arith::SubFOp::create(b, loc, s[0], s[1]));
                 });
  Value sums =
      reduceOver(l, powers, {4}, zero, [](OpBuilder &b, Location loc, Value acc, Value x) -> Value {
        return arith::AddFOp::create(b, loc, acc, x);
      });
  sums = l.parallel(
      sums, rowIdentity, rows, wide, [&](OpBuilder &b, Location loc, ValueRange s) -> Value {
        Value empty = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, s[0], zero);
        return arith::SelectOp::create(b, loc, empty, one, s[0]);
      });
  if (l.usesResult(3))
    (void)giveWeights(raw, masked, powers, sums);

  // P V, then the result's own order of dims.
  Sizes valueSizes = l.sizes(v.tensor);
  OpFoldResult valueSize = valueSizes[3];
  valueSizes[v.sequenceFirst ? 1 : 2] = keys;
  Value values = l.slice(v.tensor, Sizes(4, l.index(0)), valueSizes);
  AffineMap valueMap =
      v.sequenceFirst ? map({Batch, Inner, Head, Last}, 6) : map({Batch, Head, Inner, Last}, 6);
  Value mixed = product(powers, map({Batch, Head, Group, Query, Inner}, 6), values, valueMap,
                        {sizes[0], sizes[1], sizes[2], sizes[3], valueSize},
                        map({Batch, Head, Group, Query, Last}, 6));
  Sizes outSizes = {sizes[0], sizes[1], sizes[2], sizes[3], valueSize};
  AffineMap mixedMap = identity, sumMap = row;
  if (l.rank(0) == 3) {
    outSizes = {sizes[0], sizes[3], sizes[1], sizes[2], valueSize};
    mixedMap = map({0, 2, 3, 1, 4}, 5);
    sumMap = map({0, 2, 3, 1}, 5);
  }
  return l.parallel({mixed, sums}, {mixedMap, sumMap}, outSizes, element,
                    [&](OpBuilder &b, Location loc, ValueRange s) {
                      return castScalar(b, loc, arith::DivFOp::create(b, loc, s[0], s[1]), wide,
                                        element);
                    });
}

Value Attention::attendInBlocks(AttentionMask &mask, OpFoldResult keys) {
  Sizes querySizes = l.sizes(q.tensor);
  OpFoldResult count = querySizes[queryDim()];
  std::optional<int64_t> known = getConstantIntValue(count);
  if (l.usesResult(3) || (known && *known <= 2 * blockSize))
    return attend(mask, q.tensor, l.index(0), keys);
  bool flat = l.rank(0) == 3;
  unsigned outDim = flat ? 1 : 3;
  OpFoldResult heads = l.dim(transposed, 1), groups = querySizes[q.sequenceFirst ? 3 : 2],
               size = l.dim(v.tensor, 3);
  Value all = flat ? l.empty({querySizes[0], count, heads, groups, size}, element)
                   : l.empty({querySizes[0], heads, groups, count, size}, element);
  auto loop = scf::ForOp::create(
      l.b, l.value(l.index(0)), l.value(count), l.value(l.index(blockSize)), ValueRange{all},
      [&](OpBuilder &b, Location loc, Value first, ValueRange carried) {
        OpBuilder::InsertionGuard guard(l.b);
        l.b.setInsertionPoint(b.getInsertionBlock(), b.getInsertionPoint());
        OpFoldResult length = l.min(l.sub(count, first), l.index(blockSize));
        Sizes part = querySizes, offsets(5, l.index(0));
        part[queryDim()] = length;
        offsets[queryDim()] = first;
        Value queries = l.slice(q.tensor, offsets, part);
        OpFoldResult end = mask.keysBefore(l.add(first, length), keys);
        Value y = attend(mask, queries, first, end);
        Sizes to(5, l.index(0));
        to[outDim] = first;
        scf::YieldOp::create(l.b, l.insert(y, carried[0], to));
      });
  return loop.getResult(0);
}

LogicalResult Attention::run() {
  element = l.resultType().getElementType();
  int64_t precision = l.attr("softmax_precision", 0), mode = l.attr("qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3)
    return l.unsupported("qk_matmul_output_mode " + Twine(mode));
  if (precision != 0 && precision != 1 && precision != 10 && precision != 11 && precision != 16)
    return l.unsupported("softmax_precision " + Twine(precision));
  for (unsigned i : {0u, 1u, 2u})
    if (!isa<FloatType>(l.element(i)))
      return l.unsupported("elements cannot be of this type");
  // At least f32, whatever less the node asks for.
  bool wantsDouble = precision == 11 || element.isF64() || l.element(2).isF64();
  wide = wantsDouble ? (Type)l.b.getF64Type() : l.b.getF32Type();

  past = l.has(4) ? l.dim(l.in(4), 2) : l.index(0);
  splitHeads();
  factor = scaleFactor();
  Sizes querySizes = l.sizes(q.tensor), keySizes = l.sizes(k.tensor);
  OpFoldResult keys = keySizes[k.sequenceFirst ? 1 : 2];
  AttentionMask mask(l, wide, q, k, group, past, lengths);
  Sizes all = {querySizes[0], keySizes[k.sequenceFirst ? 2 : 1],
               querySizes[q.sequenceFirst ? 3 : 2], querySizes[queryDim()], keys};
  if (failed(mask.prepare(all)))
    return failure();
  if (!l.usesResult(3)) // What lies behind the last key of all, in a cache that is longer.
    keys = mask.keysBefore(all[3], keys);
  transposed = transposedKeys(keys);
  Value y = attendInBlocks(mask, keys);
  OpFoldResult valueSize = l.dim(v.tensor, 3);
  if (l.rank(0) == 3)
    return l.replace(fitResult(l, y, {q.batch, q.sequence, k.heads, group, v.size},
                               {all[0], all[3], l.mul(l.mul(all[1], all[2]), valueSize)}, 0));
  return l.replace(fitResult(l, y, {q.batch, k.heads, group, q.sequence, v.size},
                             {all[0], l.mul(all[1], all[2]), all[3], valueSize}, 0));
}

static LogicalResult attention(Lowering &l) { return Attention(l).run(); }

void lowbit::onnx::addAttentionLowerings(LoweringTable &table) { table["Attention"] = attention; }
