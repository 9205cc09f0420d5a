//===- Signal.cpp - DFT and STFT --------------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// As sums over all samples, with the sines and cosines of one turn in a table:
// exact for any length, and n times slower than a fast transform.
//
//===----------------------------------------------------------------------===//
#include "RuntimeAxes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

namespace {
struct Complex {
  Value re, im; ///< `im` is null where the signal is real.
};
/// The sample that `index` says, for the result at `at`.
using Sample = llvm::function_ref<Complex(OpBuilder &, Location, ValueRange at, Value index)>;

struct Transform {
  Lowering &l;
  Type wide; ///< f64: what should cancel cancels.
  OpFoldResult length; ///< Of the signal, zeros included.
  bool inverse;

  /// cos (or sin) of 2 pi i / length for each i.
  Value table(bool cosine) {
    Type f64 = l.b.getF64Type();
    Value turn = arith::DivFOp::create(l.b, l.scalar(f64, 6.283185307179586477), toFloat(l.b, l.b.getLoc(), l.value(length)));
    return l.parallel({}, {}, {length}, wide, [&](OpBuilder &b, Location loc, ValueRange) {
      Value angle = arith::MulFOp::create(b, loc, toFloat(b, loc, linalg::IndexOp::create(b, loc, 0)), turn);
      Value y = cosine ? math::CosOp::create(b, loc, angle).getResult() : math::SinOp::create(b, loc, angle).getResult();
      return castScalar(b, loc, y, f64, wide);
    });
  }
  static Value toFloat(OpBuilder &b, Location loc, Value index) {
    Value wideIndex = arith::IndexCastOp::create(b, loc, b.getI64Type(), index);
    return arith::SIToFPOp::create(b, loc, b.getF64Type(), wideIndex);
  }

  /// The result of `sizes`, one of whose dims is transformed (`frequency` says where in it a position lies) and whose
  /// last dim is the real and, where it has size 2, the imaginary part.
  Value apply(ArrayRef<OpFoldResult> sizes,
              llvm::function_ref<Value(OpBuilder &, Location, ValueRange)> frequency, Sample sample, Type element) {
    unsigned rank = sizes.size();
    Value cosines = table(true), sines = table(false), extent = l.value(length);
    SmallVector<AffineExpr> outer;
    for (unsigned i = 0; i < rank; ++i)
      outer.push_back(l.d(i));
    SmallVector<IteratorType> iterators(rank, IteratorType::parallel);
    iterators.push_back(IteratorType::reduction);
    // The table goes in for the length of the innermost loop; it is read at k n modulo the length.
    Value sums = l.generic(cosines, l.filled(sizes, l.scalar(wide, 0)),
                           {l.mapOf(rank + 1, {l.d(rank)}), l.mapOf(rank + 1, outer)}, iterators,
                           [&](OpBuilder &b, Location loc, ValueRange v) {
      SmallVector<Value> at;
      for (unsigned i = 0; i < rank; ++i)
        at.push_back(linalg::IndexOp::create(b, loc, i));
      Value index = linalg::IndexOp::create(b, loc, rank);
      Value step = arith::RemUIOp::create(b, loc, arith::MulIOp::create(b, loc, frequency(b, loc, at), index), extent);
      Value c = tensor::ExtractOp::create(b, loc, cosines, step), s = tensor::ExtractOp::create(b, loc, sines, step);
      if (!inverse)
        s = arith::NegFOp::create(b, loc, s);
      Complex x = sample(b, loc, at, index);
      auto times = [&](Value p, Value q) -> Value { return arith::MulFOp::create(b, loc, p, q); };
      Value re = times(x.re, c), im = times(x.re, s);
      if (x.im) {
        re = arith::SubFOp::create(b, loc, re, times(x.im, s));
        im = arith::AddFOp::create(b, loc, im, times(x.im, c));
      }
      Value zero = arith::ConstantIndexOp::create(b, loc, 0);
      Value isReal = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, at[rank - 1], zero);
      Value part = arith::SelectOp::create(b, loc, isReal, re, im);
      linalg::YieldOp::create(b, loc, arith::AddFOp::create(b, loc, v[1], part).getResult());
    });
    Value count = castScalar(l.b, l.b.getLoc(), toFloat(l.b, l.b.getLoc(), extent), l.b.getF64Type(), wide);
    return l.parallel(sums, l.b.getMultiDimIdentityMap(rank), sizes, element,
                      [&](OpBuilder &b, Location loc, ValueRange v) {
      Value y = inverse ? arith::DivFOp::create(b, loc, v[0], count).getResult() : v[0];
      return castScalar(b, loc, y, wide, element);
    });
  }
};
} // namespace

/// The element at `at` as type `wide`, or 0 where `inside` does not hold.
static Value readIf(OpBuilder &b, Location loc, Value inside, Value tensor, ValueRange at, Type wide) {
  Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(wide));
  Type own = cast<RankedTensorType>(tensor.getType()).getElementType();
  auto read = scf::IfOp::create(
      b, loc, inside,
      [&](OpBuilder &then, Location at2) {
        Value x = tensor::ExtractOp::create(then, at2, tensor, at);
        scf::YieldOp::create(then, at2, castScalar(then, at2, x, own, wide));
      },
      [&](OpBuilder &otherwise, Location at2) { scf::YieldOp::create(otherwise, at2, zero); });
  return read.getResult(0);
}

static LogicalResult dft(Lowering &l) {
  int64_t rank = l.rank(0), axis = -1;
  std::optional<SmallVector<int64_t>> given = l.has(2) ? l.constants(2) : SmallVector<int64_t>{-2};
  std::optional<RuntimeAxes> unknown;
  if (given)
    axis = given->front() < 0 ? given->front() + rank : given->front();
  else
    unknown.emplace(l, 2, rank);
  if (unknown)
    l.check(arith::XOrIOp::create(l.b, unknown->named(rank - 1), l.scalarInt(l.b.getI1Type(), 1)),
            "the axis is that of the real and imaginary parts");
  bool inverse = l.attr("inverse", 0), half = inverse && l.attr("onesided", 0);
  Value input = l.in(0);
  Type element = l.resultType().getElementType();
  Sizes own = l.sizes(input), sizes = own;
  OpFoldResult samples = own[0];
  for (int64_t d = 0; d < rank - 1; ++d)
    if (unknown)
      samples = unknown->pick(d, Sizes{own[d]}, samples);
    else if (d == axis)
      samples = own[d];
  // A one-sided inverse has half a spectrum, of which the other half is the mirror image, and a real result.
  OpFoldResult length = samples;
  if (half)
    length = l.mul(l.sub(length, l.index(1)), l.index(2));
  if (l.has(1))
    length = l.max(l.entry(1, 0), l.index(1));
  bool cut = !inverse && l.attr("onesided", 0);
  OpFoldResult frequencies = cut ? l.add(l.div(length, l.index(2)), l.index(1)) : length;
  for (int64_t d = 0; d < rank - 1; ++d)
    if (unknown)
      sizes[d] = unknown->pick(d, Sizes{frequencies}, own[d]);
    else if (d == axis)
      sizes[d] = frequencies;
  sizes[rank - 1] = l.index(half ? 1 : 2);
  bool isComplex = l.dims(0)[rank - 1].isConstant(2);
  Value extent = l.value(samples), whole = l.value(length);
  Transform transform{l, l.b.getF64Type(), length, inverse};
  Type wide = transform.wide;
  auto frequency = [&](OpBuilder &b, Location loc, ValueRange at) -> Value {
    if (!unknown)
      return at[axis];
    Value chosen = at[0];
    for (int64_t d = 1; d < rank - 1; ++d)
      chosen = arith::SelectOp::create(b, loc, unknown->named(d), at[d], chosen);
    return chosen;
  };
  auto sample = [&](OpBuilder &b, Location loc, ValueRange at, Value index) -> Complex {
    Value mirrored, from = index;
    if (half) {
      Value twice = arith::MulIOp::create(b, loc, index, arith::ConstantIndexOp::create(b, loc, 2));
      mirrored = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ugt, twice, whole);
      from = arith::SelectOp::create(b, loc, mirrored, arith::SubIOp::create(b, loc, whole, index), index);
    }
    Value inside = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, from, extent);
    SmallVector<Value> place(at);
    for (int64_t d = 0; d < rank - 1; ++d)
      if (unknown)
        place[d] = arith::SelectOp::create(b, loc, unknown->named(d), from, at[d]);
      else if (d == axis)
        place[d] = from;
    place[rank - 1] = arith::ConstantIndexOp::create(b, loc, 0);
    Complex x{readIf(b, loc, inside, input, place, wide), {}};
    if (isComplex) {
      place[rank - 1] = arith::ConstantIndexOp::create(b, loc, 1);
      x.im = readIf(b, loc, inside, input, place, wide);
      if (half)
        x.im = arith::SelectOp::create(b, loc, mirrored, arith::NegFOp::create(b, loc, x.im), x.im);
    }
    return x;
  };
  return l.replace(transform.apply(sizes, frequency, sample, element));
}

static LogicalResult stft(Lowering &l) {
  Value signal = l.in(0), window = l.has(2) ? l.in(2) : Value();
  Type element = l.resultType().getElementType();
  Sizes own = l.sizes(signal);
  OpFoldResult length = l.has(3) ? l.entry(3, 0) : window ? l.dim(window, 0) : own[1];
  OpFoldResult step = l.max(l.entry(1, 0), l.index(1));
  auto holds = [&](arith::CmpIPredicate predicate, OpFoldResult x, OpFoldResult y) -> Value {
    return arith::CmpIOp::create(l.b, predicate, l.value(x), l.value(y));
  };
  Value fits = holds(arith::CmpIPredicate::sle, length, own[1]), some = holds(arith::CmpIPredicate::sge, length, l.index(1));
  fits = arith::AndIOp::create(l.b, fits, some);
  if (!l.dims(0)[1].constant() || !getConstantIntValue(length))
    l.check(fits, "a frame is longer than the signal, or empty");
  length = l.max(l.min(length, own[1]), l.index(1));
  if (window && l.has(3))
    length = l.min(length, l.dim(window, 0));
  Transform transform{l, l.b.getF64Type(), length, /*inverse=*/false};
  Type wide = transform.wide;
  bool onesided = l.attr("onesided", 1);
  OpFoldResult frames = l.add(l.div(l.max(l.sub(own[1], length), l.index(0)), step), l.index(1));
  if (!getConstantIntValue(frames)) // No frame where none fits.
    frames = arith::SelectOp::create(l.b, fits, l.value(frames), l.value(l.index(0))).getResult();
  Sizes sizes = {own[0], frames, onesided ? l.add(l.div(length, l.index(2)), l.index(1)) : length, l.index(2)};
  bool isComplex = l.dims(0)[2].isConstant(2);
  Value stride = l.value(step);
  auto sample = [&](OpBuilder &b, Location loc, ValueRange at, Value index) -> Complex {
    Value start = arith::MulIOp::create(b, loc, at[1], stride);
    Value place = arith::AddIOp::create(b, loc, start, index), weight;
    if (window) {
      weight = tensor::ExtractOp::create(b, loc, window, index);
      weight = castScalar(b, loc, weight, l.element(2), wide);
    }
    auto part = [&](int64_t which) -> Value {
      Value last = arith::ConstantIndexOp::create(b, loc, which);
      Value x = tensor::ExtractOp::create(b, loc, signal, ValueRange{at[0], place, last});
      x = castScalar(b, loc, x, l.element(0), wide);
      return weight ? arith::MulFOp::create(b, loc, x, weight).getResult() : x;
    };
    return {part(0), isComplex ? part(1) : Value()};
  };
  auto frequency = [](OpBuilder &, Location, ValueRange at) { return at[2]; };
  return l.replace(transform.apply(sizes, frequency, sample, element));
}

void lowbit::onnx::addSignalLowerings(LoweringTable &table) {
  table["DFT"] = dft;
  table["STFT"] = stft;
}
