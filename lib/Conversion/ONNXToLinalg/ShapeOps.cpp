//===- ShapeOps.cpp - Reshape and its kin, Shape, Range ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "RuntimeAxes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

/// The sizes that a Reshape asks for, where the analysis does not know them: 0 copies, -1 is what
/// is left.
static Sizes requestedSizes(Lowering &l) {
  const Dims &to = l.resultDims();
  bool allowZero = l.attr("allowzero", 0);
  Sizes own = l.sizes(l.in(0)), sizes;
  bool complete = true;
  for (const SymbolicExpr &dim : to) {
    sizes.push_back(l.known(dim));
    complete &= (bool)sizes.back();
  }
  if (complete)
    return sizes;
  OpFoldResult total = l.index(1), others = l.index(1);
  for (OpFoldResult size : own)
    total = l.mul(total, size);
  Value zero = l.value(l.index(0)), one = l.value(l.index(1)), minus = l.value(l.index(-1));
  SmallVector<Value> inferred(to.size());
  for (size_t i = 0; i < to.size(); ++i) {
    if (!sizes[i]) {
      Value asked = l.value(l.entry(1, i));
      inferred[i] = arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, asked, minus);
      if (!allowZero && i < own.size()) {
        Value copies = arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, asked, zero);
        asked = arith::SelectOp::create(l.b, copies, l.value(own[i]), asked);
      }
      sizes[i] = arith::MaxSIOp::create(l.b, asked, zero).getResult();
      others = l.mul(others,
                     arith::SelectOp::create(l.b, inferred[i], one, l.value(sizes[i])).getResult());
    } else {
      others = l.mul(others, sizes[i]);
    }
  }
  Value rest = l.value(l.div(total, l.max(others, l.index(1))));
  for (size_t i = 0; i < to.size(); ++i)
    if (inferred[i])
      sizes[i] = arith::SelectOp::create(l.b, inferred[i], rest, l.value(sizes[i])).getResult();
  return sizes;
}

static LogicalResult reshape(Lowering &l) {
  return l.replace(l.reshape(l.in(0), l.dims(0), l.resultDims(), requestedSizes(l)));
}

/// Flatten, Squeeze, Unsqueeze: every size follows from the input's dims.
static LogicalResult regroup(Lowering &l) {
  const Dims &to = l.resultDims();
  Sizes sizes;
  if (l.has(1) && !l.constants(1)) {
    Sizes own = l.sizes(l.in(0));
    if (l.name() == "Unsqueeze") {
      sizes = RuntimeAxes(l, 1, to.size()).with(own);
    } else {
      RuntimeAxes axes(l, 1, own.size());
      for (size_t d = 0; d < own.size(); ++d) {
        Value other = arith::CmpIOp::create(l.b, arith::CmpIPredicate::ne, l.value(own[d]),
                                            l.value(l.index(1)));
        Value wrong = arith::AndIOp::create(l.b, axes.named(d), other);
        l.check(arith::XOrIOp::create(l.b, wrong, l.scalarInt(l.b.getI1Type(), 1)),
                "a squeezed dim is not 1");
      }
      sizes = axes.without(own, to.size());
    }
    return l.replace(l.reshape(l.in(0), l.dims(0), to, sizes));
  }
  int64_t axis = l.axis("axis", 1, l.rank(0));
  for (auto [i, dim] : llvm::enumerate(to)) {
    OpFoldResult size = l.known(dim);
    if (!size) { // Flatten: a product of dims.
      size = l.index(1);
      for (int64_t d = 0; d < l.rank(0); ++d)
        if ((d < axis) == (i == 0))
          size = l.mul(size, l.dim(l.in(0), d));
    }
    sizes.push_back(size);
  }
  return l.replace(l.reshape(l.in(0), l.dims(0), to, sizes));
}

static Value toInt64(Lowering &l, OpFoldResult size) {
  if (std::optional<int64_t> constant = getConstantIntValue(size))
    return l.scalarInt(l.b.getI64Type(), *constant);
  return arith::IndexCastOp::create(l.b, l.b.getI64Type(), l.value(size));
}

static LogicalResult shape(Lowering &l) {
  int64_t rank = l.rank(0), start = l.attr("start", 0);
  start = std::clamp<int64_t>(start < 0 ? start + rank : start, 0, rank);
  int64_t count = l.resultType().getDimSize(0);
  SmallVector<Value> entries;
  for (int64_t i = 0; i < count; ++i)
    entries.push_back(toInt64(l, l.dim(l.in(0), start + i)));
  if (entries.empty())
    return l.replace(l.empty({l.index(0)}, l.b.getI64Type()));
  return l.replace(tensor::FromElementsOp::create(l.b, l.resultType(), entries));
}

static LogicalResult size(Lowering &l) {
  OpFoldResult total = l.index(1);
  for (OpFoldResult size : l.sizes(l.in(0)))
    total = l.mul(total, size);
  return l.replace(
      tensor::FromElementsOp::create(l.b, l.resultType(), ValueRange{toInt64(l, total)}));
}

static LogicalResult constantOfShape(Lowering &l) {
  Type element = l.resultType().getElementType();
  Value fill = l.scalarInt(element, 0);
  if (auto value = l.op->getAttrOfType<DenseElementsAttr>("value")) {
    Attribute first = *value.getValues<Attribute>().begin();
    if (auto integer = dyn_cast<IntegerAttr>(first))
      fill = l.constant(element.isInteger(1)
                            ? (TypedAttr)l.b.getBoolAttr(integer.getValue().getBoolValue())
                            : l.b.getIntegerAttr(element, integer.getValue()));
    else
      fill = l.constant(cast<TypedAttr>(first));
  }
  Sizes sizes;
  for (auto [i, dim] : llvm::enumerate(l.resultDims())) {
    OpFoldResult size = l.known(dim);
    sizes.push_back(size ? size : l.max(l.entry(0, i), l.index(0)));
  }
  return l.replace(l.filled(sizes, fill));
}

static LogicalResult range(Lowering &l) {
  Type element = l.resultType().getElementType();
  auto scalarOperand = [&](unsigned i) -> Value {
    SmallVector<Value> at(l.rank(i), l.value(l.index(0)));
    return tensor::ExtractOp::create(l.b, l.in(i), at);
  };
  Value start = scalarOperand(0);
  Value limit = scalarOperand(1);
  Value delta = scalarOperand(2);
  OpFoldResult count = l.known(l.resultDims()[0]);
  if (!count) {
    Value steps;
    if (isa<FloatType>(element)) {
      steps = arith::DivFOp::create(l.b, arith::SubFOp::create(l.b, limit, start), delta);
      steps = math::CeilOp::create(l.b, steps);
      Value zero = l.scalar(element, 0);
      Value some = arith::CmpFOp::create(l.b, arith::CmpFPredicate::UNE, delta, zero);
      l.check(some, "delta is 0");
      steps = arith::SelectOp::create(l.b, some, steps, zero);
      steps = castScalar(l.b, l.b.getLoc(), steps, element, l.b.getI64Type());
    } else {
      auto wide = [&](Value x) {
        return castScalar(l.b, l.b.getLoc(), x, element, l.b.getI64Type());
      };
      Value room = arith::SubIOp::create(l.b, wide(limit), wide(start)), step = wide(delta);
      Value zero = l.scalarInt(l.b.getI64Type(), 0), one = l.scalarInt(l.b.getI64Type(), 1);
      Value none = arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, step, zero);
      Value some = arith::CmpIOp::create(l.b, arith::CmpIPredicate::ne, step, zero);
      l.check(some, "delta is 0");
      step = arith::SelectOp::create(l.b, none, one, step);
      steps = arith::CeilDivSIOp::create(l.b, room, step);
    }
    Value index = arith::IndexCastOp::create(l.b, l.b.getIndexType(), steps);
    count = l.max(index, l.index(0));
  }
  return l.replace(
      l.parallel({}, {}, {count}, element, [&](OpBuilder &b, Location loc, ValueRange) {
        Value i = linalg::IndexOp::create(b, loc, 0);
        Value wide = arith::IndexCastOp::create(b, loc, b.getI64Type(), i);
        Value at = castScalar(b, loc, wide, b.getI64Type(), element);
        return addScalars(b, loc, start, mulScalars(b, loc, at, delta));
      }));
}

void lowbit::onnx::addShapeLowerings(LoweringTable &table) {
  table["ConstantOfShape"] = constantOfShape;
  table["Flatten"] = regroup;
  table["Range"] = range;
  table["Reshape"] = reshape;
  table["Shape"] = shape;
  table["Size"] = size;
  table["Squeeze"] = regroup;
  table["Unsqueeze"] = regroup;
}
