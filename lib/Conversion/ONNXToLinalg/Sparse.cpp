//===- Sparse.cpp - NonZero, Compress, Unique -------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Results whose size depends on the data: counted first, then written.
//
//===----------------------------------------------------------------------===//
#include "Indexing.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

using Predicate = llvm::function_ref<Value(OpBuilder &, Location, Value)>;

static Value compareIndex(OpBuilder &b, Location loc, arith::CmpIPredicate predicate, Value x,
                          Value y) {
  return arith::CmpIOp::create(b, loc, predicate, x, y);
}

/// The numbers below `total` for which `keeps` holds, in order, as a tensor of i64.
static Value positionsWhere(Lowering &l, OpFoldResult total, Predicate keeps) {
  Location at = l.b.getLoc();
  Value zero = l.value(l.index(0)), one = l.value(l.index(1)), limit = l.value(total);
  auto count = scf::ForOp::create(
      l.b, at, zero, limit, one, zero, [&](OpBuilder &b, Location loc, Value i, ValueRange sum) {
        Value next = arith::AddIOp::create(b, loc, sum[0], one);
        scf::YieldOp::create(
            b, loc, arith::SelectOp::create(b, loc, keeps(b, loc, i), next, sum[0]).getResult());
      });
  Value found = count.getResult(0);
  Type i64 = l.b.getI64Type();
  Value list = l.filled({OpFoldResult(found)}, l.scalarInt(i64, 0));
  // Where nothing is kept there is nothing to write to.
  Value any = compareIndex(l.b, at, arith::CmpIPredicate::sgt, found, zero);
  Value bound = arith::SelectOp::create(l.b, any, limit, zero),
        last = arith::SubIOp::create(l.b, found, one);
  auto fill = scf::ForOp::create(l.b, at, zero, bound, one, ValueRange{list, zero},
                                 [&](OpBuilder &b, Location loc, Value i, ValueRange state) {
                                   Value keep = keeps(b, loc, i),
                                         slot = arith::MinSIOp::create(b, loc, state[1], last);
                                   Value old = tensor::ExtractOp::create(b, loc, state[0], slot);
                                   Value own = arith::IndexCastOp::create(b, loc, i64, i);
                                   Value number = arith::SelectOp::create(b, loc, keep, own, old);
                                   Value written =
                                       tensor::InsertOp::create(b, loc, number, state[0], slot);
                                   Value next = arith::AddIOp::create(b, loc, state[1], one);
                                   next = arith::SelectOp::create(b, loc, keep, next, state[1]);
                                   scf::YieldOp::create(b, loc, ValueRange{written, next});
                                 });
  return fill.getResult(0);
}

/// The coordinates of row-major position `flat` in a tensor with these sizes.
static SmallVector<Value> delinearize(OpBuilder &b, Location loc, Value flat,
                                      ArrayRef<Value> sizes) {
  SmallVector<Value> at(sizes.size());
  for (size_t i = sizes.size(); i-- > 0;) {
    at[i] = i ? arith::RemUIOp::create(b, loc, flat, sizes[i]).getResult() : flat;
    if (i)
      flat = arith::DivUIOp::create(b, loc, flat, sizes[i]);
  }
  return at;
}

static OpFoldResult elementCount(Lowering &l, ArrayRef<OpFoldResult> sizes) {
  OpFoldResult total = l.index(1);
  for (OpFoldResult size : sizes)
    total = l.mul(total, size);
  return total;
}

static SmallVector<Value> values(Lowering &l, ArrayRef<OpFoldResult> sizes) {
  SmallVector<Value> all;
  for (OpFoldResult size : sizes)
    all.push_back(l.value(size));
  return all;
}

static LogicalResult nonZero(Lowering &l) {
  Value input = l.in(0);
  Type from = l.element(0), i64 = l.b.getI64Type();
  Sizes own = l.sizes(input);
  SmallVector<Value> extents = values(l, own);
  Value positions =
      positionsWhere(l, elementCount(l, own), [&](OpBuilder &b, Location loc, Value flat) {
        Value x = tensor::ExtractOp::create(b, loc, input, delinearize(b, loc, flat, extents));
        return castScalar(b, loc, x, from, b.getI1Type());
      });
  Sizes sizes = {l.index(own.size()), l.dim(positions, 0)};
  return l.replace(l.parallel(
      positions, l.mapOf(2, {l.d(1)}), sizes, i64,
      [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
        Value flat = arith::IndexCastOp::create(b, loc, b.getIndexType(), v[0]);
        Value axis = linalg::IndexOp::create(b, loc, 0), result = v[0];
        for (auto [i, coordinate] : llvm::enumerate(delinearize(b, loc, flat, extents))) {
          Value wide = arith::IndexCastOp::create(b, loc, i64, coordinate);
          Value here = compareIndex(b, loc, arith::CmpIPredicate::eq, axis,
                                    arith::ConstantIndexOp::create(b, loc, i));
          result = arith::SelectOp::create(b, loc, here, wide, result);
        }
        return result;
      }));
}

static LogicalResult compress(Lowering &l) {
  Value input = l.in(0), condition = l.in(1);
  int64_t rank = l.rank(0);
  bool flat = !l.op->getAttr("axis");
  int64_t axis = flat ? 0 : l.axis("axis", 0, rank);
  Sizes own = l.sizes(input);
  SmallVector<Value> extents = values(l, own);
  OpFoldResult size = flat ? elementCount(l, own) : own[axis], given = l.dim(condition, 0);
  if (!getConstantIntValue(size) || !getConstantIntValue(given))
    l.check(
        compareIndex(l.b, l.b.getLoc(), arith::CmpIPredicate::sle, l.value(given), l.value(size)),
        "the condition is longer than the dim");
  Value positions =
      positionsWhere(l, l.min(given, size), [&](OpBuilder &b, Location loc, Value i) -> Value {
        return tensor::ExtractOp::create(b, loc, condition, i);
      });
  Type element = l.resultType().getElementType();
  Sizes sizes = own;
  if (flat)
    sizes = {l.dim(positions, 0)};
  else
    sizes[axis] = l.dim(positions, 0);
  return l.replace(l.parallel(
      positions, l.mapOf(sizes.size(), {l.d(axis)}), sizes, element,
      [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
        Value position = arith::IndexCastOp::create(b, loc, b.getIndexType(), v[0]);
        SmallVector<Value> at;
        if (flat)
          at = delinearize(b, loc, position, extents);
        else
          for (int64_t i = 0; i < rank; ++i)
            at.push_back(i == axis ? position : linalg::IndexOp::create(b, loc, i).getResult());
        return tensor::ExtractOp::create(b, loc, input, at);
      }));
}

namespace {
/// The slices of the input along an axis, or its elements one by one, as rows that can be compared.
struct Rows {
  Lowering &l;
  Value input;
  std::optional<int64_t> axis;
  SmallVector<Value> extents; ///< Of the input.
  SmallVector<Value> inner;   ///< Of a row: those of the input without the axis.
  Value count, width;

  Rows(Lowering &l) : l(l), input(l.in(0)) {
    Sizes own = l.sizes(input), rest = own;
    extents = values(l, own);
    if (l.op->getAttr("axis")) {
      axis = l.axis("axis", 0, l.rank(0));
      rest.erase(rest.begin() + *axis);
      inner = values(l, rest);
    }
    count = axis ? extents[*axis] : l.value(elementCount(l, own));
    width = axis ? l.value(elementCount(l, rest)) : l.value(l.index(1));
  }

  Value element(OpBuilder &b, Location loc, Value row, Value column) {
    SmallVector<Value> at;
    if (axis) {
      at = delinearize(b, loc, column, inner);
      at.insert(at.begin() + *axis, row);
    } else {
      at = delinearize(b, loc, row, extents);
    }
    return tensor::ExtractOp::create(b, loc, input, at);
  }

  /// Of two elements, a NaN being equal to a NaN and greater than any number.
  std::pair<Value, Value> lessAndGreater(OpBuilder &b, Location loc, Value x, Value y) {
    if (!isa<FloatType>(x.getType())) {
      bool isUnsigned = l.isUnsigned(0) || x.getType().isInteger(1);
      using P = arith::CmpIPredicate;
      return {compareIndex(b, loc, isUnsigned ? P::ult : P::slt, x, y),
              compareIndex(b, loc, isUnsigned ? P::ugt : P::sgt, x, y)};
    }
    auto compare = [&](arith::CmpFPredicate p, Value a, Value c) -> Value {
      return arith::CmpFOp::create(b, loc, p, a, c);
    };
    using P = arith::CmpFPredicate;
    Value xNaN = compare(P::UNO, x, x), yNaN = compare(P::UNO, y, y);
    Value yes = arith::ConstantOp::create(b, loc, b.getBoolAttr(true));
    Value onlyX = arith::AndIOp::create(b, loc, xNaN, arith::XOrIOp::create(b, loc, yNaN, yes));
    Value onlyY = arith::AndIOp::create(b, loc, yNaN, arith::XOrIOp::create(b, loc, xNaN, yes));
    return {arith::OrIOp::create(b, loc, compare(P::OLT, x, y), onlyY),
            arith::OrIOp::create(b, loc, compare(P::OGT, x, y), onlyX)};
  }

  /// -1, 0 or 1, an i8: row x against row y, first element first.
  Value compare(OpBuilder &b, Location loc, Value x, Value y) {
    Type i8 = b.getI8Type();
    auto number = [&](OpBuilder &at, int64_t value) -> Value {
      return arith::ConstantOp::create(at, loc, at.getIntegerAttr(i8, value));
    };
    Value zero = arith::ConstantIndexOp::create(b, loc, 0),
          one = arith::ConstantIndexOp::create(b, loc, 1);
    return scf::ForOp::create(
               b, loc, zero, width, one, number(b, 0),
               [&](OpBuilder &in, Location, Value column, ValueRange sofar) {
                 auto [less, greater] = lessAndGreater(in, loc, element(in, loc, x, column),
                                                       element(in, loc, y, column));
                 Value order = arith::SelectOp::create(
                     in, loc, less, number(in, -1),
                     arith::SelectOp::create(in, loc, greater, number(in, 1), number(in, 0)));
                 Value open =
                     compareIndex(in, loc, arith::CmpIPredicate::eq, sofar[0], number(in, 0));
                 scf::YieldOp::create(
                     in, loc, arith::SelectOp::create(in, loc, open, order, sofar[0]).getResult());
               })
        .getResult(0);
  }
};
} // namespace

/// Sums 1 over the numbers i below `limit` for which `holds`, as an index.
static Value countWhere(OpBuilder &b, Location loc, Value limit, Predicate holds) {
  Value zero = arith::ConstantIndexOp::create(b, loc, 0),
        one = arith::ConstantIndexOp::create(b, loc, 1);
  return scf::ForOp::create(
             b, loc, zero, limit, one, zero,
             [&](OpBuilder &in, Location, Value i, ValueRange sum) {
               Value next = arith::AddIOp::create(in, loc, sum[0], one);
               scf::YieldOp::create(
                   in, loc,
                   arith::SelectOp::create(in, loc, holds(in, loc, i), next, sum[0]).getResult());
             })
      .getResult(0);
}

/// Every row is compared with every other: fit for the small inputs that models have.
static LogicalResult unique(Lowering &l) {
  Rows rows(l);
  bool sorted = l.attr("sorted", 1);
  Type i64 = l.b.getI64Type(), i8 = l.b.getI8Type();
  auto order = [&](OpBuilder &b, Location loc, Value x, Value y, int64_t wanted) -> Value {
    Value number = arith::ConstantOp::create(b, loc, b.getIntegerAttr(i8, wanted));
    return compareIndex(b, loc, arith::CmpIPredicate::eq, rows.compare(b, loc, x, y), number);
  };
  // The first of each set of equal rows, in the order of the input.
  Value firsts = positionsWhere(l, rows.count, [&](OpBuilder &b, Location loc, Value i) {
    Value earlier = countWhere(
        b, loc, i, [&](OpBuilder &in, Location at, Value j) { return order(in, at, i, j, 0); });
    return compareIndex(b, loc, arith::CmpIPredicate::eq, earlier,
                        arith::ConstantIndexOp::create(b, loc, 0));
  });
  OpFoldResult found = l.dim(firsts, 0);
  Value many = l.value(found), zero = l.value(l.index(0)), one = l.value(l.index(1));
  auto readIndex = [](OpBuilder &b, Location loc, Value list, Value at) -> Value {
    Value number = tensor::ExtractOp::create(b, loc, list, at);
    return arith::IndexCastOp::create(b, loc, b.getIndexType(), number);
  };
  if (sorted) {
    auto nest = scf::ForOp::create(
        l.b, l.b.getLoc(), zero, many, one, l.filled({found}, l.scalarInt(i64, 0)),
        [&](OpBuilder &b, Location loc, Value k, ValueRange carried) {
          Value row = readIndex(b, loc, firsts, k);
          Value rank = countWhere(b, loc, many, [&](OpBuilder &in, Location at, Value other) {
            return order(in, at, readIndex(in, at, firsts, other), row, -1);
          });
          Value number = arith::IndexCastOp::create(b, loc, i64, row);
          scf::YieldOp::create(
              b, loc, tensor::InsertOp::create(b, loc, number, carried[0], rank).getResult());
        });
    firsts = nest.getResult(0);
  }
  // For each row the place of its set.
  Value inverse = l.parallel(
      {}, {}, {OpFoldResult(rows.count)}, i64, [&](OpBuilder &b, Location loc, ValueRange) {
        Value row = linalg::IndexOp::create(b, loc, 0);
        Value place =
            scf::ForOp::create(
                b, loc, zero, many, one, zero,
                [&](OpBuilder &in, Location, Value k, ValueRange sofar) {
                  Value same = order(in, loc, readIndex(in, loc, firsts, k), row, 0);
                  scf::YieldOp::create(
                      in, loc, arith::SelectOp::create(in, loc, same, k, sofar[0]).getResult());
                })
                .getResult(0);
        return arith::IndexCastOp::create(b, loc, i64, place).getResult();
      });
  Sizes sizes;
  if (rows.axis) {
    sizes = l.sizes(rows.input);
    sizes[*rows.axis] = found;
  } else {
    sizes = {found};
  }
  int64_t axis = rows.axis.value_or(0);
  Value result = l.parallel(
      firsts, l.mapOf(sizes.size(), {l.d(axis)}), sizes, l.resultType().getElementType(),
      [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
        Value row = arith::IndexCastOp::create(b, loc, b.getIndexType(), v[0]);
        SmallVector<Value> at;
        if (!rows.axis)
          return rows.element(b, loc, row, arith::ConstantIndexOp::create(b, loc, 0));
        for (size_t i = 0; i < sizes.size(); ++i)
          at.push_back((int64_t)i == axis ? row : linalg::IndexOp::create(b, loc, i).getResult());
        return tensor::ExtractOp::create(b, loc, rows.input, at);
      });
  if (failed(l.replace(0, result)))
    return failure();
  auto wanted = [&](unsigned i) { return !isa<NoneType>(l.op->getResult(i).getType()); };
  if (wanted(1) && failed(l.replace(1, firsts)))
    return failure();
  if (wanted(2) && failed(l.replace(2, inverse)))
    return failure();
  if (!wanted(3))
    return success();
  return l.replace(
      3, l.parallel({}, {}, {found}, i64, [&](OpBuilder &b, Location loc, ValueRange) -> Value {
        Value place = linalg::IndexOp::create(b, loc, 0);
        Value number = countWhere(b, loc, rows.count, [&](OpBuilder &in, Location at, Value row) {
          return compareIndex(in, at, arith::CmpIPredicate::eq, readIndex(in, at, inverse, row),
                              place);
        });
        return arith::IndexCastOp::create(b, loc, i64, number);
      }));
}

void lowbit::onnx::addSparseLowerings(LoweringTable &table) {
  table["Compress"] = compress;
  table["NonZero"] = nonZero;
  table["Unique"] = unique;
}
