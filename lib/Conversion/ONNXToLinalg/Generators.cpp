//===- Generators.cpp - EyeLike, OneHot, MelWeightMatrix --------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

static LogicalResult eyeLike(Lowering &l) {
  Type element = l.resultType().getElementType();
  Value one = l.scalarInt(element, 1), zero = l.scalarInt(element, 0), shift = l.value(l.index(l.attr("k", 0)));
  return l.replace(l.parallel({}, {}, l.sizes(l.in(0)), element,
                              [&](OpBuilder &b, Location loc, ValueRange) -> Value {
    Value row = linalg::IndexOp::create(b, loc, 0), column = linalg::IndexOp::create(b, loc, 1);
    Value diagonal = arith::AddIOp::create(b, loc, row, shift);
    Value on = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, diagonal, column);
    return arith::SelectOp::create(b, loc, on, one, zero);
  }));
}

/// The number that operand `i`, a scalar or a tensor of one element, holds at the run, as element type `to`.
static Value single(Lowering &l, unsigned i, Type to) {
  SmallVector<Value> first(l.rank(i), l.value(l.index(0)));
  Value number = tensor::ExtractOp::create(l.b, l.in(i), first);
  return castScalar(l.b, l.b.getLoc(), number, l.element(i), to);
}

static LogicalResult oneHot(Lowering &l) {
  int64_t rank = l.rank(0) + 1, axis = l.axis("axis", -1, rank);
  Type i64 = l.b.getI64Type(), from = l.element(0), element = l.resultType().getElementType();
  Value indices = l.in(0), values = l.in(2);
  OpFoldResult depth = l.known(l.resultDims()[axis]);
  if (!depth) {
    Value asked = arith::IndexCastOp::create(l.b, l.b.getIndexType(), single(l, 1, i64));
    depth = l.max(asked, l.index(0));
  }
  Sizes sizes = l.sizes(indices);
  sizes.insert(sizes.begin() + axis, depth);
  SmallVector<AffineExpr> exprs;
  for (int64_t i = 0; i < rank; ++i)
    if (i != axis)
      exprs.push_back(l.d(i));
  Value classes = l.value(depth);
  if (!l.dims(2)[0].constant()) { // Exactly two values, whatever comes.
    OpFoldResult count = l.dim(values, 0), two = l.index(2);
    l.check(arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, l.value(count), l.value(two)),
            "values are not two numbers");
    Value part = l.slice(values, {l.index(0)}, {l.min(count, two)});
    values = l.insert(part, l.filled({two}, l.scalarInt(element, 0)), {l.index(0)});
  }
  Value off = tensor::ExtractOp::create(l.b, values, ValueRange{l.value(l.index(0))});
  Value on = tensor::ExtractOp::create(l.b, values, ValueRange{l.value(l.index(1))});
  return l.replace(l.parallel(indices, l.mapOf(rank, exprs), sizes, element,
                              [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
    Value wide = castScalar(b, loc, v[0], from, i64);
    Value index = arith::IndexCastOp::create(b, loc, b.getIndexType(), wide);
    Value zero = arith::ConstantIndexOp::create(b, loc, 0);
    Value negative = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, index, zero);
    Value wrapped = arith::AddIOp::create(b, loc, index, classes);
    index = arith::SelectOp::create(b, loc, negative, wrapped, index);
    Value here = linalg::IndexOp::create(b, loc, axis);
    Value is = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, index, here);
    return arith::SelectOp::create(b, loc, is, on, off);
  }));
}

/// Column i is a triangle over the spectrum's bins, between the edges i, i + 1 and i + 2 of bands of equal width in mel.
static LogicalResult melWeights(Lowering &l) {
  Type f64 = l.b.getF64Type(), i64 = l.b.getI64Type(), element = l.resultType().getElementType();
  Location at = l.b.getLoc();
  Value bands = single(l, 0, i64), length = single(l, 1, i64), rate = single(l, 2, f64);
  auto mel = [&](unsigned i) -> Value {
    Value ratio = arith::DivFOp::create(l.b, single(l, i, f64), l.scalar(f64, 700));
    Value decades = math::Log10Op::create(l.b, arith::AddFOp::create(l.b, ratio, l.scalar(f64, 1)));
    return arith::MulFOp::create(l.b, decades, l.scalar(f64, 2595));
  };
  Value low = mel(3), high = mel(4);
  Value edges = castScalar(l.b, at, arith::AddIOp::create(l.b, bands, l.scalarInt(i64, 2)), i64, f64);
  Value step = arith::DivFOp::create(l.b, arith::SubFOp::create(l.b, high, low), edges);
  Value bins = castScalar(l.b, at, arith::AddIOp::create(l.b, length, l.scalarInt(i64, 1)), i64, f64);
  auto size = [&](unsigned i, Value number) -> OpFoldResult {
    if (OpFoldResult known = l.known(l.resultDims()[i]))
      return known;
    Value index = arith::IndexCastOp::create(l.b, l.b.getIndexType(), number);
    return l.max(index, l.index(0));
  };
  Value half = arith::ShRSIOp::create(l.b, length, l.scalarInt(i64, 1));
  Sizes sizes = {size(0, arith::AddIOp::create(l.b, half, l.scalarInt(i64, 1))), size(1, bands)};
  return l.replace(l.parallel({}, {}, sizes, element, [&](OpBuilder &b, Location loc, ValueRange) -> Value {
    auto number = [&](double value) -> Value {
      return arith::ConstantOp::create(b, loc, b.getF64FloatAttr(value));
    };
    auto toFloat = [&](unsigned loop) -> Value {
      Value index = linalg::IndexOp::create(b, loc, loop);
      return arith::SIToFPOp::create(b, loc, f64, arith::IndexCastOp::create(b, loc, i64, index));
    };
    Value bin = toFloat(0), band = toFloat(1);
    auto edge = [&](double offset) -> Value {
      Value mels = arith::MulFOp::create(b, loc, arith::AddFOp::create(b, loc, band, number(offset)), step);
      mels = arith::DivFOp::create(b, loc, arith::AddFOp::create(b, loc, mels, low), number(2595));
      Value hertz = arith::SubFOp::create(b, loc, math::PowFOp::create(b, loc, number(10), mels), number(1));
      hertz = arith::MulFOp::create(b, loc, hertz, number(700));
      hertz = arith::DivFOp::create(b, loc, arith::MulFOp::create(b, loc, bins, hertz), rate);
      return math::FloorOp::create(b, loc, hertz);
    };
    auto compare = [&](arith::CmpFPredicate p, Value x, Value y) -> Value {
      return arith::CmpFOp::create(b, loc, p, x, y);
    };
    auto both = [&](Value x, Value y) -> Value { return arith::AndIOp::create(b, loc, x, y); };
    using P = arith::CmpFPredicate;
    Value lower = edge(0), center = edge(1), upper = edge(2);
    Value rise = arith::SubFOp::create(b, loc, center, lower), fall = arith::SubFOp::create(b, loc, upper, center);
    Value rising = arith::DivFOp::create(b, loc, arith::SubFOp::create(b, loc, bin, lower), rise);
    Value falling = arith::DivFOp::create(b, loc, arith::SubFOp::create(b, loc, upper, bin), fall);
    Value steep = compare(P::OEQ, rise, number(0)), peak = compare(P::OEQ, bin, center);
    Value left = both(compare(P::OGE, bin, lower), compare(P::OLE, bin, center));
    Value right = both(compare(P::OGE, bin, center), compare(P::OLT, bin, upper));
    Value weight = arith::SelectOp::create(
        b, loc, steep, arith::SelectOp::create(b, loc, peak, number(1), number(0)),
        arith::SelectOp::create(b, loc, left, rising, number(0)));
    weight = arith::SelectOp::create(b, loc, right, falling, weight);
    Type to = cast<ShapedType>(l.op->getResult(0).getType()).getElementType();
    return castScalar(b, loc, weight, f64, to);
  }));
}

void lowbit::onnx::addGeneratorLowerings(LoweringTable &table) {
  table["EyeLike"] = eyeLike;
  table["MelWeightMatrix"] = melWeights;
  table["OneHot"] = oneHot;
}
