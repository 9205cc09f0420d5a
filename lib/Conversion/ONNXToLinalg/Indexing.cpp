//===- Indexing.cpp - Gather, GatherElements, GatherND ----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Indexing.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

Value lowbit::onnx::clampIndex(OpBuilder &b, Location loc, Value index, Value size) {
  Value at = isa<IndexType>(index.getType())
                 ? index
                 : arith::IndexCastOp::create(b, loc, b.getIndexType(), index).getResult();
  Value zero = arith::ConstantIndexOp::create(b, loc, 0),
        one = arith::ConstantIndexOp::create(b, loc, 1);
  Value negative = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, at, zero);
  at = arith::SelectOp::create(b, loc, negative, arith::AddIOp::create(b, loc, at, size), at);
  at = arith::MinSIOp::create(b, loc, at, arith::SubIOp::create(b, loc, size, one));
  return arith::MaxSIOp::create(b, loc, at, zero);
}

void lowbit::onnx::checkIndices(Lowering &l, unsigned operand, ArrayRef<OpFoldResult> perLast) {
  std::optional<SmallVector<int64_t>> constants = l.constants(operand);
  if (constants) {
    bool safe = true;
    for (auto [i, index] : llvm::enumerate(*constants)) {
      std::optional<int64_t> size = getConstantIntValue(perLast[i % perLast.size()]);
      safe &= size && index >= -*size && index < *size;
    }
    if (safe)
      return;
  }
  Value indices = l.in(operand);
  unsigned rank = l.rank(operand);
  Value init = tensor::FromElementsOp::create(l.b, RankedTensorType::get({}, l.b.getI1Type()),
                                              ValueRange{l.scalarInt(l.b.getI1Type(), 1)});
  SmallVector<Value> limits;
  for (OpFoldResult size : perLast)
    limits.push_back(l.value(size));
  SmallVector<IteratorType> iterators(rank, IteratorType::reduction);
  Value all = l.generic(
      indices, init, {l.b.getMultiDimIdentityMap(rank), l.mapOf(rank, {})}, iterators,
      [&](OpBuilder &b, Location loc, ValueRange v) {
        Value limit = limits[0];
        if (limits.size() > 1) {
          Value position = linalg::IndexOp::create(b, loc, rank - 1);
          for (size_t i = 1; i < limits.size(); ++i) {
            Value here = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, position,
                                               arith::ConstantIndexOp::create(b, loc, i));
            limit = arith::SelectOp::create(b, loc, here, limits[i], limit);
          }
        }
        Value at = arith::IndexCastOp::create(b, loc, b.getIndexType(), v[0]);
        Value low = arith::SubIOp::create(b, loc, arith::ConstantIndexOp::create(b, loc, 0), limit);
        Value in = arith::AndIOp::create(
            b, loc, arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, at, low),
            arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, at, limit));
        linalg::YieldOp::create(b, loc, arith::AndIOp::create(b, loc, v[1], in).getResult());
      });
  l.check(tensor::ExtractOp::create(l.b, all, ValueRange()), "an index is out of range");
}

/// Reads `data`, or gives 0 where it has no elements at all.
static Value readClamped(Lowering &l, OpBuilder &b, Location loc, Value data, ValueRange at,
                         Value nonEmpty) {
  if (!nonEmpty)
    return tensor::ExtractOp::create(b, loc, data, at);
  Type element = cast<RankedTensorType>(data.getType()).getElementType();
  auto guarded = scf::IfOp::create(
      b, loc, nonEmpty,
      [&](OpBuilder &then, Location loc) {
        scf::YieldOp::create(then, loc, tensor::ExtractOp::create(then, loc, data, at).getResult());
      },
      [&](OpBuilder &otherwise, Location loc) {
        TypedAttr zero = isa<FloatType>(element) ? (TypedAttr)otherwise.getFloatAttr(element, 0)
                                                 : otherwise.getIntegerAttr(element, 0);
        Value none = arith::ConstantOp::create(otherwise, loc, zero);
        scf::YieldOp::create(otherwise, loc, none);
      });
  return guarded.getResult(0);
}

Value lowbit::onnx::nonEmptyAxes(Lowering &l, ArrayRef<int64_t> axes) {
  Value all;
  for (int64_t axis : axes) {
    if (std::optional<int64_t> size = l.dims(0)[axis].constant(); size && *size > 0)
      continue;
    Value some = arith::CmpIOp::create(l.b, arith::CmpIPredicate::sgt,
                                       l.value(l.dim(l.in(0), axis)), l.value(l.index(0)));
    all = all ? arith::AndIOp::create(l.b, all, some).getResult() : some;
  }
  return all;
}

static LogicalResult gather(Lowering &l) {
  Value data = l.in(0), indices = l.in(1);
  int64_t axis = l.axis("axis", 0, l.rank(0)), inner = l.rank(1);
  Sizes own = l.sizes(data), many = l.sizes(indices), sizes(own.begin(), own.begin() + axis);
  checkIndices(l, 1, own[axis]);
  Value nonEmpty = nonEmptyAxes(l, {axis});
  sizes.append(many);
  sizes.append(own.begin() + axis + 1, own.end());
  SmallVector<AffineExpr> exprs;
  for (int64_t i = 0; i < inner; ++i)
    exprs.push_back(l.d(axis + i));
  Value extent = l.value(own[axis]);
  return l.replace(l.parallel(
      indices, l.mapOf(sizes.size(), exprs), sizes, l.resultType().getElementType(),
      [&](OpBuilder &b, Location loc, ValueRange v) {
        SmallVector<Value> at;
        for (int64_t i = 0; i < (int64_t)own.size(); ++i)
          at.push_back(
              i == axis
                  ? clampIndex(b, loc, v[0], extent)
                  : linalg::IndexOp::create(b, loc, i < axis ? i : i - 1 + inner).getResult());
        return readClamped(l, b, loc, data, at, nonEmpty);
      }));
}

static LogicalResult gatherElements(Lowering &l) {
  Value data = l.in(0), indices = l.in(1);
  int64_t axis = l.axis("axis", 0, l.rank(0)), rank = l.rank(0);
  Sizes own = l.sizes(data), sizes = l.sizes(indices);
  checkIndices(l, 1, own[axis]);
  Value nonEmpty = nonEmptyAxes(l, llvm::to_vector(llvm::seq<int64_t>(rank)));
  SmallVector<Value> extents;
  for (OpFoldResult size : own)
    extents.push_back(l.value(size));
  for (int64_t i = 0; i < rank; ++i) {
    if (i == axis || l.dims(0)[i] == l.dims(1)[i])
      continue;
    Value fits =
        arith::CmpIOp::create(l.b, arith::CmpIPredicate::sle, l.value(sizes[i]), extents[i]);
    l.check(fits, "the indices are bigger than the data");
  }
  return l.replace(l.parallel(
      indices, l.b.getMultiDimIdentityMap(rank), sizes, l.resultType().getElementType(),
      [&](OpBuilder &b, Location loc, ValueRange v) {
        SmallVector<Value> at;
        for (int64_t i = 0; i < rank; ++i) {
          Value position = i == axis ? v[0] : linalg::IndexOp::create(b, loc, i).getResult();
          bool inside = i != axis && l.dims(0)[i] == l.dims(1)[i];
          at.push_back(inside ? position : clampIndex(b, loc, position, extents[i]));
        }
        return readClamped(l, b, loc, data, at, nonEmpty);
      }));
}

static LogicalResult gatherND(Lowering &l) {
  Value data = l.in(0), indices = l.in(1);
  int64_t batch = l.attr("batch_dims", 0), q = l.rank(1), r = l.rank(0);
  int64_t depth = *l.dims(1)[q - 1].constant();
  for (int64_t i = 0; i < batch; ++i)
    l.equalize(data, i, l.dims(0)[i], indices, i, l.dims(1)[i], "the batch sizes");
  Sizes own = l.sizes(data), many = l.sizes(indices), sizes(many.begin(), many.end() - 1);
  SmallVector<int64_t> indexed = llvm::to_vector(llvm::seq<int64_t>(batch, batch + depth));
  checkIndices(l, 1, ArrayRef<OpFoldResult>(own).slice(batch, depth));
  Value nonEmpty = nonEmptyAxes(l, indexed);
  sizes.append(own.begin() + batch + depth, own.end());
  SmallVector<Value> extents;
  for (OpFoldResult size : own)
    extents.push_back(l.value(size));
  return l.replace(l.parallel(
      {}, {}, sizes, l.resultType().getElementType(), [&](OpBuilder &b, Location loc, ValueRange) {
        SmallVector<Value> where, at;
        for (int64_t i = 0; i < q - 1; ++i)
          where.push_back(linalg::IndexOp::create(b, loc, i));
        at.append(where.begin(), where.begin() + batch);
        for (int64_t k = 0; k < depth; ++k) {
          SmallVector<Value> entry = where;
          entry.push_back(arith::ConstantIndexOp::create(b, loc, k));
          Value index = tensor::ExtractOp::create(b, loc, indices, entry);
          at.push_back(clampIndex(b, loc, index, extents[batch + k]));
        }
        for (int64_t i = batch + depth; i < r; ++i)
          at.push_back(linalg::IndexOp::create(b, loc, q - 1 + i - batch - depth));
        return readClamped(l, b, loc, data, at, nonEmpty);
      }));
}

void lowbit::onnx::addIndexingLowerings(LoweringTable &table) {
  table["Gather"] = gather;
  table["GatherElements"] = gatherElements;
  table["GatherND"] = gatherND;
}
