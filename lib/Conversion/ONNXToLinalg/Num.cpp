//===- Num.cpp - scalar arithmetic written as expressions -------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Num.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include <functional>

using namespace lowbit;
using namespace lowbit::onnx;

static bool isFloat(Value v) { return isa<FloatType>(v.getType()); }

static Value makeConstant(OpBuilder &b, Location loc, Type type, double number) {
  if (isa<FloatType>(type))
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(type, number));
  return arith::ConstantOp::create(b, loc, b.getIntegerAttr(type, (int64_t)number));
}

Num Num::like(double number) const { return make(makeConstant(*b, loc, type(), number)); }

Num Num::to(Type target) const {
  if (target == type())
    return *this;
  if (type().isIndex())
    return make(arith::IndexCastOp::create(*b, loc, b->getI64Type(), v)).to(target);
  if (target.isIndex())
    return make(arith::IndexCastOp::create(*b, loc, target, to(b->getI64Type()).v));
  return make(castScalar(*b, loc, v, type(), target));
}

Num Num::toIndex() const { return to(b->getIndexType()); }

Num Num::operator+(const Num &y) const { return make(addScalars(*b, loc, v, y.v)); }

Num Num::operator*(const Num &y) const { return make(mulScalars(*b, loc, v, y.v)); }

Num Num::operator-(const Num &y) const {
  if (isFloat(v))
    return make(arith::SubFOp::create(*b, loc, v, y.v));
  return make(arith::SubIOp::create(*b, loc, v, y.v));
}

Num Num::operator/(const Num &y) const {
  if (isFloat(v))
    return make(arith::DivFOp::create(*b, loc, v, y.v));
  return make(arith::DivSIOp::create(*b, loc, v, y.v));
}

Num Num::operator<(const Num &y) const {
  if (isFloat(v))
    return make(arith::CmpFOp::create(*b, loc, arith::CmpFPredicate::OLT, v, y.v));
  return make(arith::CmpIOp::create(*b, loc, arith::CmpIPredicate::slt, v, y.v));
}

Num Num::operator<=(const Num &y) const {
  if (isFloat(v))
    return make(arith::CmpFOp::create(*b, loc, arith::CmpFPredicate::OLE, v, y.v));
  return make(arith::CmpIOp::create(*b, loc, arith::CmpIPredicate::sle, v, y.v));
}

Num Num::operator==(const Num &y) const {
  if (isFloat(v))
    return make(arith::CmpFOp::create(*b, loc, arith::CmpFPredicate::OEQ, v, y.v));
  return make(arith::CmpIOp::create(*b, loc, arith::CmpIPredicate::eq, v, y.v));
}

Num Num::operator&(const Num &y) const { return make(arith::AndIOp::create(*b, loc, v, y.v)); }

Num Num::operator|(const Num &y) const { return make(arith::OrIOp::create(*b, loc, v, y.v)); }

Num Num::operator!() const {
  Value yes = arith::ConstantOp::create(*b, loc, b->getBoolAttr(true));
  return make(arith::XOrIOp::create(*b, loc, v, yes));
}

Num Num::select(const Num &yes, const Num &no) const {
  return make(arith::SelectOp::create(*b, loc, v, yes.v, no.v));
}

Num Num::rem(const Num &y) const { return make(arith::RemSIOp::create(*b, loc, v, y.v)); }

Num Num::min(const Num &y) const {
  if (isFloat(v))
    return make(arith::MinimumFOp::create(*b, loc, v, y.v));
  return make(arith::MinSIOp::create(*b, loc, v, y.v));
}

Num Num::max(const Num &y) const {
  if (isFloat(v))
    return make(arith::MaximumFOp::create(*b, loc, v, y.v));
  return make(arith::MaxSIOp::create(*b, loc, v, y.v));
}

Num Num::floor() const { return make(math::FloorOp::create(*b, loc, v)); }
Num Num::ceil() const { return make(math::CeilOp::create(*b, loc, v)); }
Num Num::roundEven() const { return make(math::RoundEvenOp::create(*b, loc, v)); }
Num Num::abs() const {
  if (isFloat(v))
    return make(math::AbsFOp::create(*b, loc, v));
  return make(math::AbsIOp::create(*b, loc, v));
}
Num Num::exp() const { return make(math::ExpOp::create(*b, loc, v)); }
Num Num::log1p() const { return make(math::Log1pOp::create(*b, loc, v)); }
Num Num::tanh() const { return make(math::TanhOp::create(*b, loc, v)); }
Num Num::sqrt() const { return make(math::SqrtOp::create(*b, loc, v)); }
Num Num::pow(const Num &y) const { return make(math::PowFOp::create(*b, loc, v, y.v)); }

Num Scope::index(int64_t value) const { return num(arith::ConstantIndexOp::create(b, loc, value)); }

Num Scope::size(OpFoldResult value) const {
  return num(getValueOrCreateConstantIndexOp(b, loc, value));
}

Num Scope::constant(Type type, double value) const {
  return num(makeConstant(b, loc, type, value));
}

Num Scope::loopIndex(unsigned dim) const { return num(linalg::IndexOp::create(b, loc, dim)); }

Num Scope::read(Value tensor, ArrayRef<Num> indices) const {
  SmallVector<Value> at;
  for (const Num &index : indices)
    at.push_back(index);
  return num(tensor::ExtractOp::create(b, loc, tensor, at));
}

SmallVector<Num>
Scope::loop(Num count, ArrayRef<Num> state,
            llvm::function_ref<SmallVector<Num>(Scope, Num, ArrayRef<Num>)> body) const {
  SmallVector<Value> initial;
  for (const Num &value : state)
    initial.push_back(value);
  auto made = scf::ForOp::create(b, loc, index(0), count, index(1), initial,
                                 [&](OpBuilder &nested, Location at, Value i, ValueRange values) {
                                   Scope inner{nested, at};
                                   SmallVector<Num> carried;
                                   for (Value value : values)
                                     carried.push_back(inner.num(value));
                                   SmallVector<Value> next;
                                   for (const Num &value : body(inner, inner.num(i), carried))
                                     next.push_back(value);
                                   scf::YieldOp::create(nested, at, next);
                                 });
  SmallVector<Num> results;
  for (Value value : made.getResults())
    results.push_back(num(value));
  return results;
}

SmallVector<Num>
Scope::loops(ArrayRef<Num> counts, ArrayRef<Num> state,
             llvm::function_ref<SmallVector<Num>(Scope, ArrayRef<Num>, ArrayRef<Num>)> body) const {
  SmallVector<Num> at;
  std::function<SmallVector<Num>(Scope, ArrayRef<Num>)> nest = [&](Scope s, ArrayRef<Num> inner) {
    if (at.size() == counts.size())
      return body(s, at, inner);
    return s.loop(counts[at.size()], inner, [&](Scope s, Num i, ArrayRef<Num> state) {
      at.push_back(i);
      SmallVector<Num> next = nest(s, state);
      at.pop_back();
      return next;
    });
  };
  return nest(*this, state);
}

Num Scope::choose(Num condition, llvm::function_ref<Num(Scope)> yes,
                  llvm::function_ref<Num(Scope)> no) const {
  auto branch = [](llvm::function_ref<Num(Scope)> body) {
    return [body](OpBuilder &nested, Location at) {
      scf::YieldOp::create(nested, at, body(Scope{nested, at}).value());
    };
  };
  return num(scf::IfOp::create(b, loc, condition, branch(yes), branch(no)).getResult(0));
}

Value lowbit::onnx::tabulate(Lowering &l, ArrayRef<OpFoldResult> sizes, Type element,
                             llvm::function_ref<Num(Scope, ArrayRef<Num>)> body, Value guard) {
  return l.parallel({}, {}, sizes, element, [&](OpBuilder &b, Location loc, ValueRange) {
    Scope scope{b, loc};
    SmallVector<Num> at;
    for (unsigned i = 0; i < sizes.size(); ++i)
      at.push_back(scope.loopIndex(i));
    if (!guard)
      return body(scope, at).value();
    return scope
        .choose(
            scope.num(guard), [&](Scope s) { return body(s, at); },
            [&](Scope s) { return s.constant(element, 0); })
        .value();
  });
}

Value lowbit::onnx::listOperand(Lowering &l, unsigned operand, int64_t count) {
  Value list = l.in(operand);
  if (l.dims(operand)[0].isConstant(count))
    return list;
  Scope top{l.b, l.b.getLoc()};
  Num length = top.size(l.dim(list, 0));
  l.check(length == count, "operand " + Twine(operand) + " needs " + Twine(count) + " entries");
  Type element = cast<RankedTensorType>(list.getType()).getElementType();
  return tabulate(l, l.index(count), element, [&](Scope s, ArrayRef<Num> at) {
    return s.choose(
        at[0] < length, [&](Scope s) { return s.read(list, at[0]); },
        [&](Scope s) { return s.constant(element, 0); });
  });
}

Type lowbit::onnx::realType(Type element) {
  bool wide = element.isF64() || (element.isInteger() && element.getIntOrFloatBitWidth() > 16);
  return wide ? (Type)Float64Type::get(element.getContext())
              : (Type)Float32Type::get(element.getContext());
}
