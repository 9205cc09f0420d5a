//===- Determinant.cpp - Det ------------------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

namespace {
/// Gaussian elimination with row pivots of one n x n matrix, which is carried through the loops by
/// value.
struct Elimination {
  OpBuilder &b;
  Location loc;
  Value size;

  Value index(int64_t value) { return arith::ConstantIndexOp::create(b, loc, value); }
  Value read(OpBuilder &at, Value matrix, Value row, Value column) {
    return tensor::ExtractOp::create(at, loc, matrix, ValueRange{row, column});
  }
  Value write(OpBuilder &at, Value number, Value matrix, Value row, Value column) {
    return tensor::InsertOp::create(at, loc, number, matrix, ValueRange{row, column});
  }

  /// The row at or below `column` with the greatest magnitude in it.
  Value pivotRow(OpBuilder &at, Value matrix, Value column) {
    Value first = math::AbsFOp::create(at, loc, read(at, matrix, column, column));
    auto search = scf::ForOp::create(
        at, loc, column, size, index(1), ValueRange{first, column},
        [&](OpBuilder &in, Location, Value row, ValueRange best) {
          Value magnitude = math::AbsFOp::create(in, loc, read(in, matrix, row, column));
          Value wins =
              arith::CmpFOp::create(in, loc, arith::CmpFPredicate::OGT, magnitude, best[0]);
          Value greatest = arith::SelectOp::create(in, loc, wins, magnitude, best[0]);
          Value where = arith::SelectOp::create(in, loc, wins, row, best[1]);
          scf::YieldOp::create(in, loc, ValueRange{greatest, where});
        });
    return search.getResult(1);
  }

  Value swapRows(OpBuilder &at, Value matrix, Value x, Value y) {
    return scf::ForOp::create(at, loc, index(0), size, index(1), matrix,
                              [&](OpBuilder &in, Location, Value column, ValueRange carried) {
                                Value left = read(in, carried[0], x, column);
                                Value right = read(in, carried[0], y, column);
                                Value next = write(in, right, carried[0], x, column);
                                scf::YieldOp::create(in, loc, write(in, left, next, y, column));
                              })
        .getResult(0);
  }

  /// Subtracts multiples of row `column` from the rows below it, so that they are 0 in that column.
  Value clearBelow(OpBuilder &at, Value matrix, Value column, Value pivot) {
    Value zero = arith::ConstantOp::create(at, loc, at.getZeroAttr(pivot.getType()));
    Value one = arith::ConstantOp::create(at, loc, at.getFloatAttr(pivot.getType(), 1));
    Value isZero = arith::CmpFOp::create(at, loc, arith::CmpFPredicate::OEQ, pivot, zero);
    Value safe = arith::SelectOp::create(at, loc, isZero, one, pivot);
    Value next = arith::AddIOp::create(at, loc, column, index(1));
    return scf::ForOp::create(
               at, loc, next, size, index(1), matrix,
               [&](OpBuilder &outer, Location, Value row, ValueRange rows) {
                 Value factor =
                     arith::DivFOp::create(outer, loc, read(outer, rows[0], row, column), safe);
                 auto line = scf::ForOp::create(
                     outer, loc, column, size, index(1), rows[0],
                     [&](OpBuilder &in, Location, Value i, ValueRange carried) {
                       Value above = read(in, carried[0], column, i),
                             own = read(in, carried[0], row, i);
                       Value part = arith::MulFOp::create(in, loc, factor, above);
                       Value rest = arith::SubFOp::create(in, loc, own, part);
                       scf::YieldOp::create(in, loc, write(in, rest, carried[0], row, i));
                     });
                 scf::YieldOp::create(outer, loc, line.getResult(0));
               })
        .getResult(0);
  }

  Value determinant(Value matrix, Type element) {
    Value one = arith::ConstantOp::create(b, loc, b.getFloatAttr(element, 1));
    auto columns = scf::ForOp::create(
        b, loc, index(0), size, index(1), ValueRange{matrix, one},
        [&](OpBuilder &in, Location, Value column, ValueRange state) {
          Value row = pivotRow(in, state[0], column);
          Value swapped = swapRows(in, state[0], row, column);
          Value pivot = read(in, swapped, column, column);
          Value stays = arith::CmpIOp::create(in, loc, arith::CmpIPredicate::eq, row, column);
          Value factor =
              arith::SelectOp::create(in, loc, stays, pivot, arith::NegFOp::create(in, loc, pivot));
          Value product = arith::MulFOp::create(in, loc, state[1], factor);
          scf::YieldOp::create(in, loc,
                               ValueRange{clearBelow(in, swapped, column, pivot), product});
        });
    return columns.getResult(1);
  }
};
} // namespace

static LogicalResult det(Lowering &l) {
  Type element = l.resultType().getElementType(), wide = accumulator(element);
  if (!isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  Value input = l.in(0);
  int64_t rank = l.rank(0);
  Sizes own = l.sizes(input), outer(own.begin(), own.end() - 2);
  if (l.dims(0)[rank - 2] != l.dims(0)[rank - 1])
    l.check(arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, l.value(own[rank - 2]),
                                  l.value(own[rank - 1])),
            "the matrix is not square");
  OpFoldResult size = l.min(own[rank - 2], own[rank - 1]);
  Value extent = l.value(size);
  auto one = [&](OpBuilder &b, Location loc, ValueRange at) -> Value {
    Sizes square = {size, size};
    Value scratch = tensor::EmptyOp::create(b, loc, square, wide);
    Elimination elimination{b, loc, extent};
    Value zero = elimination.index(0), step = elimination.index(1);
    auto copy = scf::buildLoopNest(
        b, loc, {zero, zero}, {extent, extent}, {step, step}, scratch,
        [&](OpBuilder &in, Location, ValueRange ij, ValueRange carried) -> scf::ValueVector {
          SmallVector<Value> from(at);
          llvm::append_range(from, ij);
          Value number =
              castScalar(in, loc, tensor::ExtractOp::create(in, loc, input, from), element, wide);
          return {tensor::InsertOp::create(in, loc, number, carried[0], ij).getResult()};
        });
    return castScalar(b, loc, elimination.determinant(copy.results[0], wide), wide, element);
  };
  Value init = l.empty(outer, element);
  if (outer.empty()) {
    Value number = one(l.b, l.b.getLoc(), {});
    return l.replace(tensor::FromElementsOp::create(l.b, l.resultType(), ValueRange{number}));
  }
  Value zero = l.value(l.index(0)), step = l.value(l.index(1));
  SmallVector<Value> lower(outer.size(), zero), steps(outer.size(), step), upper;
  for (OpFoldResult bound : outer)
    upper.push_back(l.value(bound));
  return l.replace(
      scf::buildLoopNest(
          l.b, l.b.getLoc(), lower, upper, steps, init,
          [&](OpBuilder &b, Location loc, ValueRange at, ValueRange carried) -> scf::ValueVector {
            return {tensor::InsertOp::create(b, loc, one(b, loc, at), carried[0], at).getResult()};
          })
          .results[0]);
}

void lowbit::onnx::addDeterminantLowerings(LoweringTable &table) { table["Det"] = det; }
