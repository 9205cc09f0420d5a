//===- LowerLinearInFloat.cpp - linear on integers with sums in float ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Epilogue.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;

namespace {
/// The loops of one linear op: K = groups · length, the last group padded.
struct Shape {
  int64_t n, k, groups, length;
  bool isPadded() const { return groups * length != k; }
};
} // namespace

/// Appends zeros to dimension `axis` of `value` up to `extent`.
static Value padTo(Lowering &l, Value value, int64_t axis, int64_t extent) {
  auto type = cast<RankedTensorType>(value.getType());
  SmallVector<OpFoldResult> low(type.getRank(), l.b.getIndexAttr(0)), high = low;
  high[axis] = l.b.getIndexAttr(extent - type.getDimSize(axis));
  SmallVector<int64_t> shape(type.getShape());
  shape[axis] = extent;
  Value zero = l.constantInt(type.getElementType(), 0);
  return tensor::PadOp::create(l.b, l.loc, type.clone(shape), value, low, high, zero);
}

/// Dimension `axis` of `value` as [groups, length].
static Value splitGroups(Lowering &l, Value value, int64_t axis, const Shape &shape) {
  if (shape.isPadded())
    value = padTo(l, value, axis, shape.groups * shape.length);
  auto type = cast<RankedTensorType>(value.getType());
  SmallVector<int64_t> extents;
  SmallVector<OpFoldResult> sizes, own = l.shapeOf(value);
  SmallVector<ReassociationIndices> split(type.getRank());
  for (int64_t d = 0; d < type.getRank(); ++d) {
    auto add = [&](int64_t extent, OpFoldResult size) {
      split[d].push_back(extents.size());
      extents.push_back(extent);
      sizes.push_back(size);
    };
    if (d != axis) {
      add(type.getDimSize(d), own[d]);
      continue;
    }
    add(shape.groups, l.b.getIndexAttr(shape.groups));
    add(shape.length, l.b.getIndexAttr(shape.length));
  }
  return tensor::ExpandShapeOp::create(l.b, l.loc, type.clone(extents), value, split, sizes);
}

/// Weights less their zero points as integers [groups, length, N].
static Value centredWeights(LinearOp op, Lowering &l, const Shape &shape, Type &element) {
  Value weight = l.storedPermuted(op.getWeight(), {shape.n, shape.k}, {1, 0});
  if (op.getWeightZero()) {
    MLIRContext *context = op.getContext();
    SmallVector<AffineExpr> exprs{getAffineDimExpr(1, context),
                                  getAffineDimExpr(0, context).floorDiv(shape.length)};
    exprs.resize(cast<RankedTensorType>(op.getWeightZero().getType()).getRank());
    Type narrow = element, i32 = l.b.getI32Type();
    Value zero = l.stored(op.getWeightZero());
    weight = l.elementwise({weight, zero},
                           {l.b.getMultiDimIdentityMap(2), AffineMap::get(2, 0, exprs, context)},
                           l.shapeOf(weight), i32, [&](OpBuilder &b, ValueRange args) -> Value {
                             Value q = Lowering::widen(b, l.loc, args[0], narrow, i32);
                             Value z = Lowering::widen(b, l.loc, args[1], narrow, i32);
                             return arith::SubIOp::create(b, l.loc, q, z);
                           });
    element = i32;
  }
  return splitGroups(l, weight, 0, shape);
}

/// Loops are (rows…, group, k, n) and then (rows…, group, n): integer sums within a group, f32 ones
/// over the groups, in their order. A padded element has weight 0.
LogicalResult lowbit::lowerLinearInFloat(LinearOp op, OpBuilder &b, Value &result) {
  Lowering l{b, op.getLoc()};
  Location loc = op.getLoc();
  MLIRContext *context = op.getContext();
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  if (!weightType.hasStaticShape())
    return op.emitOpError("expects weights of static shape");
  Shape shape{weightType.getDimSize(0), weightType.getDimSize(1), 1, weightType.getDimSize(1)};
  if (int64_t group = op.getGroup(); group && group < shape.k) {
    shape.length = group;
    shape.groups = (shape.k + group - 1) / group;
  }
  auto inputType = cast<RankedTensorType>(op.getInput().getType());
  Type inputElement = inputType.getElementType(), weightElement = weightType.getElementType();
  Type i32 = b.getI32Type();
  // Of 16-bit inputs a 32-bit accumulator would hold few products.
  Type accumulator = inputElement.getIntOrFloatBitWidth() > 8 ? Type(b.getI64Type()) : i32;
  unsigned rows = inputType.getRank() - 1;

  Value input = l.stored(op.getInput());
  if (inputType.isDynamicDim(rows)) {
    SmallVector<int64_t> known(inputType.getShape());
    known.back() = shape.k;
    input =
        tensor::CastOp::create(b, loc, cast<RankedTensorType>(input.getType()).clone(known), input);
  }
  input = splitGroups(l, input, rows, shape);
  Value weight = centredWeights(op, l, shape, weightElement);

  // (rows…, g, k, n)
  auto dims = [&](unsigned loops, ArrayRef<unsigned> last) {
    SmallVector<AffineExpr> exprs;
    for (unsigned d = 0; d < rows; ++d)
      exprs.push_back(getAffineDimExpr(d, context));
    for (unsigned d : last)
      exprs.push_back(getAffineDimExpr(d, context));
    return AffineMap::get(loops, 0, exprs, context);
  };
  unsigned g = rows, k = rows + 1, n = rows + 2, loops = rows + 3;
  SmallVector<Value> operands{input, weight};
  SmallVector<AffineMap> maps{dims(loops, {g, k}), AffineMap::get(loops, 0,
                                                                  {getAffineDimExpr(g, context),
                                                                   getAffineDimExpr(k, context),
                                                                   getAffineDimExpr(n, context)},
                                                                  context)};
  Value zero;
  bool zeroPerRow = cast<RankedTensorType>(op.getInputZero().getType()).getRank() > 0;
  if (zeroPerRow) {
    AffineMap map = dims(loops, {});
    operands.push_back(l.stored(op.getInputZero()));
    SmallVector<AffineExpr> exprs(map.getResults());
    exprs.push_back(getAffineConstantExpr(0, context));
    maps.push_back(AffineMap::get(loops, 0, exprs, context));
  } else {
    zero = l.scalar(op.getInputZero());
  }
  SmallVector<OpFoldResult> sizes = l.shapeOf(input);
  sizes.back() = b.getIndexAttr(shape.n); // [rows…, groups, N]
  Value acc = l.contract(
      operands, maps, dims(loops, {g, n}), {k}, sizes, accumulator,
      [&](OpBuilder &b, ValueRange args) -> Value {
        Value x = Lowering::widen(b, loc, args[0], inputElement, i32);
        Value z = zero ? zero : Lowering::widen(b, loc, args[2], inputElement, i32);
        x = arith::SubIOp::create(b, loc, x, z);
        if (!accumulator.isInteger(32))
          x = arith::ExtSIOp::create(b, loc, accumulator, x);
        Value w = Lowering::widen(b, loc, args[1], weightElement, accumulator);
        return arith::AddIOp::create(b, loc, args.back(), arith::MulIOp::create(b, loc, x, w));
      });
  if (shape.groups == 1) {
    auto type = cast<RankedTensorType>(acc.getType());
    SmallVector<int64_t> merged(type.getShape());
    merged.erase(merged.begin() + g);
    SmallVector<ReassociationIndices> join;
    for (int64_t d = 0; d < int64_t(rows); ++d)
      join.push_back({d});
    join.push_back({int64_t(g), int64_t(g) + 1});
    acc = tensor::CollapseShapeOp::create(b, loc, type.clone(merged), acc, join);
  } else {
    sizes.erase(sizes.begin() + g);
    unsigned channel = rows + 1;
    AffineMap scaleMap = AffineMap::get(
        rows + 2, 0, {getAffineDimExpr(channel, context), getAffineDimExpr(g, context)}, context);
    acc = l.contract({acc, l.stored(op.getWeightScale())}, {dims(rows + 2, {g, channel}), scaleMap},
                     dims(rows + 2, {channel}), {g}, sizes, b.getF32Type(),
                     [&](OpBuilder &b, ValueRange args) -> Value {
                       Value real = arith::SIToFPOp::create(b, loc, b.getF32Type(), args[0]);
                       real = arith::MulFOp::create(b, loc, real, args[1]);
                       return arith::AddFOp::create(b, loc, args[2], real);
                     });
  }
  result = lowerFloatEpilogue(op, l, acc, rows);
  return success();
}
