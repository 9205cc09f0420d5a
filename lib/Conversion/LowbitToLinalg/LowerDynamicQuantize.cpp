//===- LowerDynamicQuantize.cpp - ranges that the run gives ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include <cmath>
#include <tuple>

using namespace lowbit;

/// The smallest and the largest value of an integer type, as f32 constants where they are used.
static std::pair<float, float> rangeOf(Type element) {
  unsigned width = element.getIntOrFloatBitWidth();
  if (element.isUnsignedInteger())
    return {0.0f, std::ldexp(1.0f, width) - 1};
  return {-std::ldexp(1.0f, width - 1), std::ldexp(1.0f, width - 1) - 1};
}

/// [rows…] as [rows…, 1].
static Value withLastOne(Lowering &l, Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  int64_t rank = type.getRank();
  SmallVector<int64_t> shape(type.getShape());
  SmallVector<OpFoldResult> sizes = l.shapeOf(value);
  shape.push_back(1);
  sizes.push_back(l.b.getIndexAttr(1));
  SmallVector<ReassociationIndices> split;
  for (int64_t d = 0; d < rank; ++d)
    split.push_back({d});
  if (rank)
    split.back().push_back(rank);
  return tensor::ExpandShapeOp::create(l.b, l.loc, type.clone(shape), value, split, sizes);
}

LogicalResult lowbit::lowerDynamicQuantize(DynamicQuantizeOp op, OpBuilder &b,
                                           SmallVectorImpl<Value> &results) {
  Lowering l{b, op.getLoc()};
  Location loc = op.getLoc();
  Value input = op.getInput();
  auto type = cast<RankedTensorType>(input.getType());
  Type element = cast<RankedTensorType>(op.getOutput().getType()).getElementType();
  Type f32 = b.getF32Type();
  int64_t rank = type.getRank(), rows = op.getPerToken() ? rank - 1 : 0;
  AffineMap whole = b.getMultiDimIdentityMap(rank);
  AffineMap row = AffineMap::get(rank, 0, whole.getResults().take_front(rows), op.getContext());
  SmallVector<unsigned> along = llvm::to_vector(llvm::seq<unsigned>(rows, rank));
  SmallVector<OpFoldResult> shape = l.shapeOf(input), rowShape(ArrayRef(shape).take_front(rows));

  // Both start from 0, so the range has it.
  Value low = l.contract({input}, {whole}, row, along, rowShape, f32,
                         [&](OpBuilder &b, ValueRange args) -> Value {
                           return arith::MinNumFOp::create(b, loc, args[1], args[0]);
                         });
  Value high = l.contract({input}, {whole}, row, along, rowShape, f32,
                          [&](OpBuilder &b, ValueRange args) -> Value {
                            return arith::MaxNumFOp::create(b, loc, args[1], args[0]);
                          });
  float least, most;
  std::tie(least, most) = rangeOf(element);
  float half = std::ldexp(1.0f, element.getIntOrFloatBitWidth() - 1);
  bool symmetric = op.getSymmetric();
  float steps = symmetric ? half - 1 : most - least;
  AffineMap own = b.getMultiDimIdentityMap(rows);
  Value scale =
      l.elementwise({low, high}, {own, own}, rowShape, f32, [&](OpBuilder &b, ValueRange args) {
        auto constant = [&](float value) -> Value {
          return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value));
        };
        Value range;
        if (symmetric) {
          Value negated = arith::SubFOp::create(b, loc, constant(0), args[0]);
          range = arith::MaxNumFOp::create(b, loc, negated, args[1]);
        } else {
          range = arith::SubFOp::create(b, loc, args[1], args[0]);
        }
        Value s = arith::DivFOp::create(b, loc, range, constant(steps));
        Value isZero = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, s, constant(0));
        return arith::SelectOp::create(b, loc, isZero, constant(1), s).getResult();
      });
  Type stored = storageType(element);
  Value zero =
      l.elementwise({low, scale}, {own, own}, rowShape, stored, [&](OpBuilder &b, ValueRange args) {
        auto constant = [&](float value) -> Value {
          return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value));
        };
        Value z;
        if (symmetric) {
          z = constant(element.isUnsignedInteger() ? half : 0);
        } else {
          z = arith::SubFOp::create(b, loc, constant(least),
                                    arith::DivFOp::create(b, loc, args[0], args[1]));
          z = arith::MaxNumFOp::create(b, loc, z, constant(least));
          z = arith::MinNumFOp::create(b, loc, z, constant(most));
          z = math::RoundEvenOp::create(b, loc, z);
        }
        Value integer = arith::FPToSIOp::create(b, loc, b.getI32Type(), z);
        return arith::TruncIOp::create(b, loc, stored, integer).getResult();
      });
  Value q = l.elementwise(
      {input, scale, zero}, {whole, row, row}, shape, stored, [&](OpBuilder &b, ValueRange args) {
        Value quotient = arith::DivFOp::create(b, loc, args[0], args[1]);
        Value z = Lowering::widen(b, loc, args[2], element, b.getI32Type());
        return Lowering::roundAndSaturate(b, loc, quotient, z, element, /*atZero=*/false);
      });
  if (op.getPerToken()) {
    scale = withLastOne(l, scale);
    zero = withLastOne(l, zero);
  }
  results.assign({q, scale, zero});
  return success();
}
