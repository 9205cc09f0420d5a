//===- Scatter.cpp - ScatterElements, ScatterND, TensorScatter --*- C++ -*-===//
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
#include "llvm/ADT/StringSet.h"

using namespace lowbit;
using namespace lowbit::onnx;

using Position = llvm::function_ref<SmallVector<Value>(OpBuilder &, Location, ValueRange)>;

/// A copy of operand 0, then the elements of `updates` one after the other, each combined with the
/// one at `position` of its indices. Loops run over `sizes`.
static Value scatter(Lowering &l, Value updates, ArrayRef<OpFoldResult> sizes, StringRef reduction,
                     Position position) {
  Value data = l.in(0);
  int64_t rank = l.rank(0);
  bool isUnsigned = l.isUnsigned(0);
  Type element = l.resultType().getElementType();
  // A private copy: the data may be used elsewhere.
  Value result = l.parallel(data, l.b.getMultiDimIdentityMap(rank), l.sizes(data), element,
                            [](OpBuilder &, Location, ValueRange v) { return v[0]; });
  Value some = nonEmptyAxes(l, llvm::to_vector(llvm::seq<int64_t>(rank)));
  Value zero = l.value(l.index(0)), one = l.value(l.index(1));
  SmallVector<Value> lower(sizes.size(), zero), upper, step(sizes.size(), one);
  for (OpFoldResult size : sizes) {
    Value bound = l.value(size);
    // Nothing can be written to data without elements.
    upper.push_back(some ? arith::SelectOp::create(l.b, some, bound, zero).getResult() : bound);
  }
  auto write = [&](OpBuilder &b, Location loc, ValueRange at,
                   ValueRange carried) -> scf::ValueVector {
    SmallVector<Value> to = position(b, loc, at);
    Value update = tensor::ExtractOp::create(b, loc, updates, at);
    if (reduction != "none") {
      Value old = tensor::ExtractOp::create(b, loc, carried[0], to);
      bool logical = element.isInteger(1); // Numbers modulo 2 are not what is meant.
      if (reduction == "add")
        update = logical ? arith::OrIOp::create(b, loc, old, update).getResult()
                         : addScalars(b, loc, old, update);
      else if (reduction == "mul")
        update = mulScalars(b, loc, old, update);
      else if (reduction == "max")
        update = maxScalars(b, loc, old, update, isUnsigned);
      else
        update = minScalars(b, loc, old, update, isUnsigned);
    }
    return {tensor::InsertOp::create(b, loc, update, carried[0], to).getResult()};
  };
  if (sizes.empty())
    return write(l.b, l.b.getLoc(), {}, result)[0];
  return scf::buildLoopNest(l.b, l.b.getLoc(), lower, upper, step, result, write).results[0];
}

static LogicalResult checkReduction(Lowering &l, StringRef reduction) {
  static const llvm::StringSet<> known = {"none", "add", "mul", "max", "min"};
  if (!known.contains(reduction))
    return l.unsupported("reduction " + reduction);
  return success();
}

/// The smaller of two sizes that must be equal; the run fails where they are not.
static OpFoldResult sameSize(Lowering &l, OpFoldResult x, const SymbolicExpr &xDim, OpFoldResult y,
                             const SymbolicExpr &yDim) {
  if (xDim == yDim)
    return x;
  Value equal = arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, l.value(x), l.value(y));
  l.check(equal, "the shape of the updates does not fit");
  return l.min(x, y);
}

static LogicalResult scatterND(Lowering &l) {
  StringRef reduction = onnx::getString(l.op, "reduction", "none");
  if (failed(checkReduction(l, reduction)))
    return failure();
  Value data = l.in(0), indices = l.in(1), updates = l.in(2);
  int64_t q = l.rank(1), depth = *l.dims(1)[q - 1].constant();
  Sizes own = l.sizes(data), many = l.sizes(indices), loops = l.sizes(updates);
  for (int64_t i = 0; i < l.rank(2); ++i) {
    bool outer = i < q - 1;
    int64_t inner = depth + i - (q - 1);
    loops[i] = sameSize(l, loops[i], l.dims(2)[i], outer ? many[i] : own[inner],
                        outer ? l.dims(1)[i] : l.dims(0)[inner]);
  }
  checkIndices(l, 1, ArrayRef<OpFoldResult>(own).take_front(depth));
  SmallVector<Value> extents;
  for (int64_t i = 0; i < depth; ++i)
    extents.push_back(l.value(own[i]));
  return l.replace(
      scatter(l, updates, loops, reduction, [&](OpBuilder &b, Location loc, ValueRange at) {
        SmallVector<Value> position;
        for (int64_t k = 0; k < depth; ++k) {
          SmallVector<Value> entry(at.begin(), at.begin() + (q - 1));
          entry.push_back(arith::ConstantIndexOp::create(b, loc, k));
          Value index = tensor::ExtractOp::create(b, loc, indices, entry);
          position.push_back(clampIndex(b, loc, index, extents[k]));
        }
        position.append(at.begin() + (q - 1), at.end());
        return position;
      }));
}

static LogicalResult scatterElements(Lowering &l) {
  StringRef reduction = onnx::getString(l.op, "reduction", "none");
  if (failed(checkReduction(l, reduction)))
    return failure();
  Value data = l.in(0), indices = l.in(1), updates = l.in(2);
  int64_t rank = l.rank(0), axis = l.axis("axis", 0, rank);
  Sizes own = l.sizes(data), many = l.sizes(indices), loops = l.sizes(updates);
  for (int64_t i = 0; i < rank; ++i) {
    loops[i] = sameSize(l, loops[i], l.dims(2)[i], many[i], l.dims(1)[i]);
    if (i == axis || l.dims(0)[i] == l.dims(1)[i])
      continue;
    Value fits =
        arith::CmpIOp::create(l.b, arith::CmpIPredicate::sle, l.value(loops[i]), l.value(own[i]));
    l.check(fits, "the indices are bigger than the data");
    loops[i] = l.min(loops[i], own[i]);
  }
  checkIndices(l, 1, own[axis]);
  Value extent = l.value(own[axis]);
  return l.replace(
      scatter(l, updates, loops, reduction, [&](OpBuilder &b, Location loc, ValueRange at) {
        SmallVector<Value> position(at);
        Value index = tensor::ExtractOp::create(b, loc, indices, at);
        position[axis] = clampIndex(b, loc, index, extent);
        return position;
      }));
}

/// Writes into a cache along its sequence axis, from a position of each sample's own.
static LogicalResult tensorScatter(Lowering &l) {
  StringRef mode = onnx::getString(l.op, "mode", "linear");
  if (mode != "linear" && mode != "circular")
    return l.unsupported("mode " + mode);
  bool circular = mode == "circular";
  int64_t rank = l.rank(0), axis = l.axis("axis", -2, rank);
  if (axis == 0)
    return l.unsupported("the batch axis as the sequence axis");
  Value updates = l.in(1);
  Sizes own = l.sizes(l.in(0)), loops = l.sizes(updates);
  for (int64_t i = 0; i < rank; ++i)
    if (i != axis)
      loops[i] = sameSize(l, loops[i], l.dims(1)[i], own[i], l.dims(0)[i]);
  Value extent = l.value(own[axis]), length = l.value(loops[axis]), zero = l.value(l.index(0));
  Value starts = l.has(2) ? l.in(2) : Value();
  if (starts) {
    loops[0] = sameSize(l, loops[0], l.dims(1)[0], l.dim(starts, 0), l.dims(2)[0]);
    Value yes = tensor::FromElementsOp::create(l.b, RankedTensorType::get({}, l.b.getI1Type()),
                                               ValueRange{l.scalarInt(l.b.getI1Type(), 1)});
    Value inside = l.generic(
        starts, yes, {l.b.getMultiDimIdentityMap(1), l.mapOf(1, {})},
        {utils::IteratorType::reduction}, [&](OpBuilder &b, Location loc, ValueRange v) {
          Value first = arith::IndexCastOp::create(b, loc, b.getIndexType(), v[0]);
          Value fits = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, first, zero);
          if (!circular) {
            Value last = arith::AddIOp::create(b, loc, first, length);
            fits = arith::AndIOp::create(
                b, loc, fits,
                arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sle, last, extent));
          }
          linalg::YieldOp::create(b, loc, arith::AndIOp::create(b, loc, v[1], fits).getResult());
        });
    l.check(tensor::ExtractOp::create(l.b, inside, ValueRange()),
            "the update does not fit into the cache");
  } else if (!circular && l.dims(0)[axis] != l.dims(1)[axis]) {
    l.check(arith::CmpIOp::create(l.b, arith::CmpIPredicate::sle, length, extent),
            "the update does not fit into the cache");
  }
  return l.replace(
      scatter(l, updates, loops, "none", [&](OpBuilder &b, Location loc, ValueRange at) {
        SmallVector<Value> position(at);
        if (starts) {
          Value start = tensor::ExtractOp::create(b, loc, starts, ValueRange{at[0]});
          start = arith::IndexCastOp::create(b, loc, b.getIndexType(), start);
          position[axis] = arith::AddIOp::create(b, loc, at[axis], start);
        }
        if (circular)
          position[axis] = arith::RemSIOp::create(b, loc, position[axis], extent);
        position[axis] = clampIndex(b, loc, position[axis], extent);
        return position;
      }));
}

void lowbit::onnx::addScatterLowerings(LoweringTable &table) {
  table["ScatterElements"] = scatterElements;
  table["ScatterND"] = scatterND;
  table["TensorScatter"] = tensorScatter;
}
