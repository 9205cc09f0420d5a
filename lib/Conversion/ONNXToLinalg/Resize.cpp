//===- Resize.cpp - nearest and linear resampling ---------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

namespace {
/// One dim that changes its size.
struct Axis {
  unsigned dim;
  Value scale;         ///< f32
  Value input, output; ///< index
};
} // namespace

static Value f32(OpBuilder &b, Location loc, double value) {
  return arith::ConstantOp::create(b, loc, b.getF32FloatAttr((float)value));
}

static Value toFloat(OpBuilder &b, Location loc, Value index) {
  Value wide = arith::IndexCastOp::create(b, loc, b.getI64Type(), index);
  return arith::SIToFPOp::create(b, loc, b.getF32Type(), wide);
}

/// Where output position `at` lies in the input, by ONNX's coordinate_transformation_mode.
static Value sourcePosition(OpBuilder &b, Location loc, const Axis &axis, StringRef mode, Value at) {
  Value x = toFloat(b, loc, at), one = f32(b, loc, 1), half = f32(b, loc, 0.5);
  if (mode == "asymmetric")
    return arith::DivFOp::create(b, loc, x, axis.scale);
  Value output = toFloat(b, loc, axis.output), input = toFloat(b, loc, axis.input);
  Value single = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLE, output, one);
  if (mode == "align_corners") {
    Value numerator = arith::MulFOp::create(b, loc, x, arith::SubFOp::create(b, loc, input, one));
    Value safe = arith::SelectOp::create(b, loc, single, one, arith::SubFOp::create(b, loc, output, one));
    Value position = arith::DivFOp::create(b, loc, numerator, safe);
    return arith::SelectOp::create(b, loc, single, f32(b, loc, 0), position);
  }
  Value position = arith::DivFOp::create(b, loc, arith::AddFOp::create(b, loc, x, half), axis.scale);
  position = arith::SubFOp::create(b, loc, position, half);
  if (mode == "pytorch_half_pixel")
    return arith::SelectOp::create(b, loc, single, f32(b, loc, 0), position);
  return position;
}

static Value clampPosition(OpBuilder &b, Location loc, Value position, const Axis &axis) {
  Value zero = arith::ConstantIndexOp::create(b, loc, 0), one = arith::ConstantIndexOp::create(b, loc, 1);
  Value wide = castScalar(b, loc, position, b.getF32Type(), b.getI64Type());
  Value at = arith::IndexCastOp::create(b, loc, b.getIndexType(), wide);
  at = arith::MinSIOp::create(b, loc, at, arith::SubIOp::create(b, loc, axis.input, one));
  return arith::MaxSIOp::create(b, loc, at, zero);
}

static Value roundNearest(OpBuilder &b, Location loc, StringRef mode, Value x) {
  if (mode == "floor")
    return math::FloorOp::create(b, loc, x);
  if (mode == "ceil")
    return math::CeilOp::create(b, loc, x);
  Value half = f32(b, loc, 0.5);
  if (mode == "round_prefer_ceil")
    return math::FloorOp::create(b, loc, arith::AddFOp::create(b, loc, x, half));
  return math::CeilOp::create(b, loc, arith::SubFOp::create(b, loc, x, half));
}

static LogicalResult resize(Lowering &l) {
  StringRef mode = getString(l.op, "mode", "nearest");
  StringRef coordinates = getString(l.op, "coordinate_transformation_mode", "half_pixel");
  StringRef nearest = getString(l.op, "nearest_mode", "round_prefer_floor");
  bool linear = mode == "linear";
  Type element = l.resultType().getElementType();
  if (!linear && mode != "nearest")
    return l.unsupported("mode " + mode);
  if (coordinates == "tf_crop_and_resize" || coordinates == "half_pixel_symmetric" || l.attr("antialias", 0))
    return l.unsupported(l.attr("antialias", 0) ? Twine("antialias") : "coordinates " + coordinates);
  if (linear && !isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  int64_t rank = l.rank(0);
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(rank));
  if (hasInts(l.op, "axes"))
    axes = getInts(l.op, "axes");
  for (int64_t &axis : axes)
    axis += axis < 0 ? rank : 0;
  std::vector<float> scales(axes.size(), 0);
  if (!l.has(3))
    scales = ConstantData::get(getOperand(l.op, 2))->toFloats();

  Value input = l.in(0);
  Sizes own = l.sizes(input), sizes = own;
  SmallVector<Axis> moved;
  for (auto [i, dim] : llvm::enumerate(axes)) {
    if (!l.has(3) && scales[i] == 1.0f)
      continue;
    if (l.dims(0)[dim].isConstant(0))
      return l.unsupported("an empty input");
    Axis axis{(unsigned)dim, {}, l.value(own[dim]), {}};
    Value extent = toFloat(l.b, l.b.getLoc(), axis.input);
    if (l.has(3)) {
      sizes[dim] = l.max(l.entry(3, i), l.index(0));
      axis.output = l.value(sizes[dim]);
      axis.scale = arith::DivFOp::create(l.b, toFloat(l.b, l.b.getLoc(), axis.output), extent);
    } else {
      axis.scale = f32(l.b, l.b.getLoc(), scales[i]);
      std::optional<int64_t> known = l.resultDims()[dim].constant();
      if (known) {
        sizes[dim] = l.index(*known);
      } else {
        Value product = arith::MulFOp::create(l.b, extent, axis.scale);
        Value wide = castScalar(l.b, l.b.getLoc(), product, l.b.getF32Type(), l.b.getI64Type());
        sizes[dim] = arith::IndexCastOp::create(l.b, l.b.getIndexType(), wide).getResult();
      }
      axis.output = l.value(sizes[dim]);
    }
    if (!l.dims(0)[dim].constant()) {
      Value some = arith::CmpIOp::create(l.b, arith::CmpIPredicate::sgt, axis.input, l.value(l.index(0)));
      l.check(some, "an empty input cannot be resized");
      sizes[dim] = arith::SelectOp::create(l.b, some, l.value(sizes[dim]), l.value(l.index(0))).getResult();
    }
    moved.push_back(axis);
  }
  if (linear && moved.size() > 3)
    return l.unsupported("linear mode over more than three dims");
  return l.replace(l.parallel({}, {}, sizes, element, [&](OpBuilder &b, Location loc, ValueRange) -> Value {
    SmallVector<Value> at;
    for (int64_t i = 0; i < rank; ++i)
      at.push_back(linalg::IndexOp::create(b, loc, i));
    SmallVector<Value> low(moved.size()), high(moved.size()), weight(moved.size());
    for (auto [i, axis] : llvm::enumerate(moved)) {
      Value position = sourcePosition(b, loc, axis, coordinates, at[axis.dim]);
      if (!linear) {
        at[axis.dim] = clampPosition(b, loc, roundNearest(b, loc, nearest, position), axis);
        continue;
      }
      // Outside the input its edge goes on.
      Value last = arith::SubFOp::create(b, loc, toFloat(b, loc, axis.input), f32(b, loc, 1));
      position = arith::MaximumFOp::create(b, loc, position, f32(b, loc, 0));
      position = arith::MinimumFOp::create(b, loc, position, last);
      Value floor = math::FloorOp::create(b, loc, position);
      weight[i] = arith::SubFOp::create(b, loc, position, floor);
      low[i] = clampPosition(b, loc, floor, axis);
      high[i] = clampPosition(b, loc, arith::AddFOp::create(b, loc, floor, f32(b, loc, 1)), axis);
    }
    if (!linear)
      return tensor::ExtractOp::create(b, loc, input, at);
    Value sum = f32(b, loc, 0);
    for (unsigned corner = 0; corner < 1u << moved.size(); ++corner) {
      Value factor = f32(b, loc, 1);
      for (auto [i, axis] : llvm::enumerate(moved)) {
        bool upper = corner >> i & 1;
        at[axis.dim] = upper ? high[i] : low[i];
        Value part = upper ? weight[i] : arith::SubFOp::create(b, loc, f32(b, loc, 1), weight[i]).getResult();
        factor = arith::MulFOp::create(b, loc, factor, part);
      }
      Value x = castScalar(b, loc, tensor::ExtractOp::create(b, loc, input, at), element, b.getF32Type());
      sum = arith::AddFOp::create(b, loc, sum, arith::MulFOp::create(b, loc, x, factor));
    }
    return castScalar(b, loc, sum, b.getF32Type(), element);
  }));
}

void lowbit::onnx::addResizeLowerings(LoweringTable &table) { table["Resize"] = resize; }
