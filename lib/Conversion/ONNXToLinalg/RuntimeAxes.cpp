//===- RuntimeAxes.cpp - axes that only the run knows -----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "RuntimeAxes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

static Value compare(Lowering &l, arith::CmpIPredicate predicate, Value x, Value y) {
  return arith::CmpIOp::create(l.b, predicate, x, y);
}

RuntimeAxes::RuntimeAxes(Lowering &l, unsigned operand, int64_t rank) : l(l), is(rank) {
  Value extent = l.value(l.index(rank)), zero = l.value(l.index(0));
  Value no = l.scalarInt(l.b.getI1Type(), 0), yes = l.scalarInt(l.b.getI1Type(), 1);
  anyOf.assign(rank, no);
  auto normal = [&](Value axis) {
    Value wrapped = arith::AddIOp::create(l.b, axis, extent);
    Value negative = compare(l, arith::CmpIPredicate::slt, axis, zero);
    axis = arith::SelectOp::create(l.b, negative, wrapped, axis);
    l.check(compare(l, arith::CmpIPredicate::ult, axis, extent), "an axis is out of range");
    return axis;
  };
  // Marks the dim that `axis` is.
  auto mark = [&](Value axis, MutableArrayRef<Value> named, bool first) {
    for (int64_t d = 0; d < rank; ++d) {
      Value here = compare(l, arith::CmpIPredicate::eq, axis, l.value(l.index(d)));
      Value twice = arith::AndIOp::create(l.b, here, named[d]);
      if (!first)
        l.check(arith::XOrIOp::create(l.b, twice, yes), "an axis is given twice");
      is[d].push_back(here);
      named[d] = arith::OrIOp::create(l.b, named[d], here);
    }
  };
  std::optional<int64_t> many = 1;
  if (l.rank(operand))
    many = l.dims(operand)[0].constant();
  if (many) {
    for (int64_t k = 0; k < *many; ++k)
      mark(normal(l.value(l.entry(operand, k))), anyOf, k == 0);
    return;
  }
  Value one = l.value(l.index(1)), count = l.value(l.dim(l.in(operand), 0));
  auto loop = scf::ForOp::create(l.b, zero, count, one, anyOf);
  OpBuilder::InsertionGuard guard(l.b);
  l.b.setInsertionPointToStart(loop.getBody());
  Value axis = tensor::ExtractOp::create(l.b, l.in(operand), loop.getInductionVar());
  axis = arith::IndexCastOp::create(l.b, l.b.getIndexType(), axis);
  SmallVector<Value> named(loop.getRegionIterArgs());
  mark(normal(axis), named, /*first=*/false);
  scf::YieldOp::create(l.b, named);
  anyOf.assign(loop.getResults().begin(), loop.getResults().end());
  is.assign(rank, {});
}

void RuntimeAxes::nameAllIfNone() {
  Value some = l.scalarInt(l.b.getI1Type(), 0);
  for (Value named : anyOf)
    some = arith::OrIOp::create(l.b, some, named);
  Value none = arith::XOrIOp::create(l.b, some, l.scalarInt(l.b.getI1Type(), 1));
  for (Value &named : anyOf)
    named = arith::OrIOp::create(l.b, named, none);
}

OpFoldResult RuntimeAxes::pick(int64_t d, ArrayRef<OpFoldResult> values,
                               OpFoldResult otherwise) const {
  Value chosen = l.value(otherwise);
  for (auto [here, value] : llvm::zip(is[d], values))
    chosen = arith::SelectOp::create(l.b, here, l.value(value), chosen);
  return chosen;
}

Sizes RuntimeAxes::without(ArrayRef<OpFoldResult> all, int64_t count) const {
  Sizes sizes(count, l.index(1));
  Value before = l.value(l.index(0)), one = l.value(l.index(1)),
        yes = l.scalarInt(l.b.getI1Type(), 1);
  for (size_t d = 0; d < all.size(); ++d) {
    Value stays = arith::XOrIOp::create(l.b, anyOf[d], yes);
    for (int64_t i = 0; i < count; ++i) {
      Value here = compare(l, arith::CmpIPredicate::eq, before, l.value(l.index(i)));
      here = arith::AndIOp::create(l.b, here, stays);
      sizes[i] = arith::SelectOp::create(l.b, here, l.value(all[d]), l.value(sizes[i])).getResult();
    }
    Value next = arith::AddIOp::create(l.b, before, one);
    before = arith::SelectOp::create(l.b, stays, next, before);
  }
  return sizes;
}

Sizes RuntimeAxes::with(ArrayRef<OpFoldResult> others) const {
  Sizes sizes;
  Value before = l.value(l.index(0)), one = l.value(l.index(1));
  for (Value named : anyOf) {
    Value size = one;
    for (auto [i, other] : llvm::enumerate(others)) {
      Value here = compare(l, arith::CmpIPredicate::eq, before, l.value(l.index(i)));
      size = arith::SelectOp::create(l.b, here, l.value(other), size);
    }
    sizes.push_back(arith::SelectOp::create(l.b, named, one, size).getResult());
    Value next = arith::AddIOp::create(l.b, before, one);
    before = arith::SelectOp::create(l.b, named, before, next);
  }
  return sizes;
}
