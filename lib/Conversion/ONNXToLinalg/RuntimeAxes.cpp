//===- RuntimeAxes.cpp - axes that only the run knows -----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "RuntimeAxes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
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
  int64_t many = l.rank(operand) ? *l.dims(operand)[0].constant() : 1;
  for (int64_t k = 0; k < many; ++k) {
    Value axis = l.value(l.entry(operand, k));
    Value wrapped = arith::AddIOp::create(l.b, axis, extent);
    axis = arith::SelectOp::create(l.b, compare(l, arith::CmpIPredicate::slt, axis, zero), wrapped, axis);
    l.check(compare(l, arith::CmpIPredicate::ult, axis, extent), "an axis is out of range");
    for (int64_t d = 0; d < rank; ++d) {
      Value here = compare(l, arith::CmpIPredicate::eq, axis, l.value(l.index(d)));
      Value twice = arith::AndIOp::create(l.b, here, anyOf[d]);
      if (k > 0)
        l.check(arith::XOrIOp::create(l.b, twice, yes), "an axis is given twice");
      is[d].push_back(here);
      anyOf[d] = arith::OrIOp::create(l.b, anyOf[d], here);
    }
  }
}

OpFoldResult RuntimeAxes::pick(int64_t d, ArrayRef<OpFoldResult> values, OpFoldResult otherwise) const {
  Value chosen = l.value(otherwise);
  for (auto [here, value] : llvm::zip(is[d], values))
    chosen = arith::SelectOp::create(l.b, here, l.value(value), chosen);
  return chosen;
}

Sizes RuntimeAxes::without(ArrayRef<OpFoldResult> all, int64_t count) const {
  Sizes sizes(count, l.index(1));
  Value before = l.value(l.index(0)), one = l.value(l.index(1)), yes = l.scalarInt(l.b.getI1Type(), 1);
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
