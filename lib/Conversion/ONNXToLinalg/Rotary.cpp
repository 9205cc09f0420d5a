//===- Rotary.cpp - rotary position embedding and cache updates -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "Heads.h"
#include "Indexing.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

namespace {
/// A tensor and how it is read at [batch, token, column].
struct PerToken {
  Value tensor;
  AffineMap map;
};
} // namespace

/// Cache `i` for each token, [batch, sequence, half]; one batch entry (and one token) may serve
/// all.
static PerToken perToken(Lowering &l, unsigned i, const Dims &to, const Sizes &sizes) {
  Value cache = l.in(i);
  if (!l.has(3)) {
    AffineMap map = l.broadcastMap(cache, l.dims(i), to, sizes);
    return {cache, map};
  }
  Value positions = l.in(3);
  AffineMap map = l.broadcastMap(positions, l.dims(3), {to[0], to[1]}, {sizes[0], sizes[1]});
  map = map.compose(l.mapOf(3, {l.d(0), l.d(1)}));
  Value rows = l.value(l.dim(cache, 0)), columns = l.value(l.dim(cache, 1)),
        zero = l.value(l.index(0));
  Value least = arith::MinSIOp::create(l.b, rows, columns);
  Value some = arith::CmpIOp::create(l.b, arith::CmpIPredicate::sgt, least, zero);
  Type element = cast<RankedTensorType>(cache.getType()).getElementType();
  Value fallback = l.scalar(element, 0);
  cache = l.parallel(
      positions, map, sizes, element, [&](OpBuilder &b, Location loc, ValueRange s) -> Value {
        Value row = clampIndex(b, loc, s[0], rows), column = linalg::IndexOp::create(b, loc, 2);
        auto guarded = scf::IfOp::create(
            b, loc, some,
            [&](OpBuilder &then, Location loc) {
              Value last = arith::SubIOp::create(then, loc, columns,
                                                 arith::ConstantIndexOp::create(then, loc, 1));
              Value at = arith::MinSIOp::create(then, loc, column, last);
              Value read = tensor::ExtractOp::create(then, loc, cache, ValueRange{row, at});
              scf::YieldOp::create(then, loc, read);
            },
            [&](OpBuilder &otherwise, Location loc) {
              scf::YieldOp::create(otherwise, loc, fallback);
            });
        return guarded.getResult(0);
      });
  return {cache, l.b.getMultiDimIdentityMap(3)};
}

static LogicalResult rotaryEmbedding(Lowering &l) {
  Type element = l.resultType().getElementType(), wide = accumulator(element);
  if (!isa<FloatType>(element) || l.element(1) != element || l.element(2) != element)
    return l.unsupported("elements cannot be of this type");
  Heads x = l.rank(0) == 3 ? splitLastDim(l, 0, l.attr("num_heads", 0)) : fourDims(l, 0);
  Sizes sizes = l.sizes(x.tensor);
  unsigned sequenceDim = x.sequenceFirst ? 1 : 2;
  OpFoldResult batch = sizes[0], sequence = sizes[sequenceDim], size = sizes[3];
  int64_t given = l.attr("rotary_embedding_dim", 0);
  ShapeAnalysis &shapes = l.shapes;
  // The shapes are those of the input, whatever the caches turn out to be: the ops behind count on
  // it.
  OpFoldResult rotated = given ? l.index(given) : size;
  OpFoldResult half = l.min(l.div(rotated, l.index(2)), l.div(size, l.index(2)));
  SymbolicExpr halfDim = shapes.floorDiv(given ? SymbolicExpr(given) : x.size, 2);
  auto require = [&](OpFoldResult a, OpFoldResult b, StringRef what) {
    std::optional<int64_t> left = getConstantIntValue(a), right = getConstantIntValue(b);
    if (!left || !right || *left != *right)
      l.check(arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, l.value(a), l.value(b)), what);
  };
  if (l.has(3)) {
    checkIndices(l, 3, {l.dim(l.in(1), 0)});
    require(l.dim(l.in(1), 0), l.dim(l.in(2), 0), "the lengths of the caches differ");
  }
  for (unsigned i : {1u, 2u})
    if (l.dims(i).back() != halfDim)
      require(l.dim(l.in(i), l.rank(i) - 1), half,
              "half of what is rotated and the caches' last dim differ");
  if (!given && !getConstantIntValue(size))
    require(l.mul(half, l.index(2)), size, "an odd number of elements would be rotated");
  Value input = x.tensor;
  const Dims tokens = {x.batch, x.sequence, halfDim};
  PerToken cosine = perToken(l, 1, tokens, {batch, sequence, half});
  PerToken sine = perToken(l, 2, tokens, {batch, sequence, half});
  bool interleaved = l.attr("interleaved", 0) == 1;
  Sizes part = sizes, first(4, l.index(0)), second = first, strides(4, l.index(1));
  part[3] = half;
  second[3] = interleaved ? l.index(1) : half;
  if (interleaved)
    strides[3] = l.index(2);
  Value left = l.slice(input, first, part, strides), right = l.slice(input, second, part, strides);
  AffineMap identity = l.b.getMultiDimIdentityMap(4),
            token = l.mapOf(4, {l.d(0), l.d(sequenceDim), l.d(3)});
  AffineMap cosineMap = cosine.map.compose(token), sineMap = sine.map.compose(token);
  auto turn = [&](bool imaginary) {
    return l.parallel({left, right, cosine.tensor, sine.tensor},
                      {identity, identity, cosineMap, sineMap}, part, element,
                      [&](OpBuilder &b, Location loc, ValueRange s) -> Value {
                        SmallVector<Value> w;
                        for (Value value : s)
                          w.push_back(castScalar(b, loc, value, element, wide));
                        Value x = arith::MulFOp::create(b, loc, w[imaginary ? 3 : 2], w[0]);
                        Value y = arith::MulFOp::create(b, loc, w[imaginary ? 2 : 3], w[1]);
                        Value sum = imaginary ? arith::AddFOp::create(b, loc, x, y).getResult()
                                              : arith::SubFOp::create(b, loc, x, y).getResult();
                        return castScalar(b, loc, sum, wide, element);
                      });
  };
  auto place = [&](Value piece, Value whole, ArrayRef<OpFoldResult> offsets) -> Value {
    if (getConstantIntValue(part[3]) == 0)
      return whole;
    return tensor::InsertSliceOp::create(l.b, piece, whole, offsets, part, strides);
  };
  Value y = l.empty(sizes, element);
  if (given && getConstantIntValue(size) != given) { // What is not rotated.
    Sizes rest = sizes, from(4, l.index(0));
    from[3] = rotated;
    rest[3] = l.max(l.sub(size, rotated), l.index(0));
    y = l.insert(l.slice(input, from, rest), y, from);
  }
  y = place(turn(false), y, first);
  y = place(turn(true), y, second);
  if (l.rank(0) == 4)
    return l.replace(y);
  Sizes whole = {batch, sequence, l.dim(l.in(0), 2)};
  return l.replace(l.reshape(y, {x.batch, x.sequence, x.heads, x.size}, l.resultDims(), whole));
}

static LogicalResult tensorScatter(Lowering &l) {
  StringRef mode = onnx::getString(l.op, "mode", "linear");
  if (mode != "linear" && mode != "circular")
    return l.unsupported("mode '" + mode + "'");
  bool circular = mode == "circular";
  Value cache = l.in(0), update = l.in(1);
  unsigned rank = l.rank(0);
  int64_t axis = l.axis("axis", -2, rank);
  const Dims &dims = l.dims(0), &own = l.dims(1);
  for (unsigned i = 0; i < rank; ++i)
    if ((int64_t)i != axis)
      l.equalize(cache, i, dims[i], update, i, own[i], "dims of cache and update");
  Value writes;
  if (l.has(2)) {
    writes = l.in(2);
    l.equalize(writes, 0, l.dims(2)[0], cache, 0, dims[0],
               "the lengths of write_indices and of the batch");
  }
  Sizes sizes = l.sizes(cache), part = l.sizes(update);
  OpFoldResult room = l.sub(sizes[axis], part[axis]);
  if (!getConstantIntValue(room))
    l.check(
        arith::CmpIOp::create(l.b, arith::CmpIPredicate::sge, l.value(room), l.value(l.index(0))),
        "the update is longer than the cache");
  // One copy of the cache, then the rows of one batch entry after another.
  Value lengthOfUpdate = l.value(l.min(part[axis], sizes[axis])),
        most = l.value(l.max(room, l.index(0)));
  Value zero = l.value(l.index(0)), one = l.value(l.index(1)), size = l.value(sizes[axis]);
  Value batches = l.value(l.dim(writes ? writes : cache, 0));
  // A tensor of its own: the cache may be an input.
  auto loop = scf::ForOp::create(
      l.b, zero, batches, one, ValueRange{cache},
      [&](OpBuilder &b, Location loc, Value batch, ValueRange carried) {
        OpBuilder::InsertionGuard guard(l.b);
        l.b.setInsertionPoint(b.getInsertionBlock(), b.getInsertionPoint());
        Value at = zero;
        if (writes)
          at = arith::IndexCastOp::create(
              l.b, l.b.getIndexType(), tensor::ExtractOp::create(l.b, writes, batch).getResult());
        Sizes from(rank, l.index(0)), to(rank, l.index(0)), rows = part;
        from[0] = to[0] = batch;
        rows[0] = l.index(1);
        Value whole = carried[0];
        if (!circular) {
          Value low = arith::MaxSIOp::create(l.b, at, zero);
          Value inside = arith::MinSIOp::create(l.b, low, most);
          l.check(arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, at, inside),
                  "a write index is outside of the cache");
          rows[axis] = lengthOfUpdate;
          to[axis] = inside;
          whole = l.insert(l.slice(update, from, rows), whole, to);
        } else {
          // Up to the end of the cache, then from its start.
          Value divisor = l.value(l.max(sizes[axis], l.index(1)));
          Value start = arith::RemSIOp::create(l.b, at, divisor);
          Value negative = arith::CmpIOp::create(l.b, arith::CmpIPredicate::slt, start, zero);
          start = arith::SelectOp::create(l.b, negative, arith::AddIOp::create(l.b, start, size),
                                          start);
          Value left = arith::SubIOp::create(l.b, size, start);
          Value head = arith::MinSIOp::create(l.b, left, lengthOfUpdate);
          rows[axis] = head;
          to[axis] = start;
          whole = l.insert(l.slice(update, from, rows), whole, to);
          rows[axis] = l.sub(lengthOfUpdate, head);
          from[axis] = head;
          to[axis] = l.index(0);
          whole = l.insert(l.slice(update, from, rows), whole, to);
        }
        scf::YieldOp::create(l.b, whole);
      });
  return l.replace(loop.getResult(0));
}

void lowbit::onnx::addRotaryLowerings(LoweringTable &table) {
  table["RotaryEmbedding"] = rotaryEmbedding;
  table["TensorScatter"] = tensorScatter;
}
