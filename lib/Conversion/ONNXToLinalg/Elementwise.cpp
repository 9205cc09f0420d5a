//===- Elementwise.cpp - elementwise onnx ops -------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "llvm/ADT/Sequence.h"
#include "llvm/ADT/StringSet.h"

using namespace lowbit;
using namespace lowbit::onnx;

static bool isFloat(Value value) { return isa<FloatType>(value.getType()); }

static Value number(OpBuilder &b, Location loc, Type type, double value) {
  if (isa<FloatType>(type))
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(type, value));
  return arith::ConstantOp::create(b, loc, b.getIntegerAttr(type, (int64_t)value));
}

static Value sigmoid(OpBuilder &b, Location loc, Value x) {
  Value one = number(b, loc, x.getType(), 1);
  Value e = math::ExpOp::create(b, loc, arith::NegFOp::create(b, loc, x));
  return arith::DivFOp::create(b, loc, one, arith::AddFOp::create(b, loc, one, e));
}

/// log(1 + exp(x)) without overflow.
static Value softplus(OpBuilder &b, Location loc, Value x) {
  Value zero = number(b, loc, x.getType(), 0);
  Value magnitude = math::AbsFOp::create(b, loc, x);
  Value tail = math::Log1pOp::create(
      b, loc, math::ExpOp::create(b, loc, arith::NegFOp::create(b, loc, magnitude)));
  return arith::AddFOp::create(b, loc, arith::MaximumFOp::create(b, loc, x, zero), tail);
}

/// x where x > 0 (or NaN), else `otherwise`.
static Value whereNegative(OpBuilder &b, Location loc, Value x, Value otherwise) {
  Value zero = number(b, loc, x.getType(), 0);
  Value negative =
      isFloat(x) ? arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, zero).getResult()
                 : arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, x, zero).getResult();
  return arith::SelectOp::create(b, loc, negative, otherwise, x);
}

/// min(max(x, low), high) that keeps NaN.
static Value clampTo(OpBuilder &b, Location loc, Value x, double low, double high) {
  x = arith::MaximumFOp::create(b, loc, x, number(b, loc, x.getType(), low));
  return arith::MinimumFOp::create(b, loc, x, number(b, loc, x.getType(), high));
}

template <typename FloatOp>
static Value floatOnly(OpBuilder &b, Location loc, Value x) {
  return FloatOp::create(b, loc, x);
}

/// The value of a unary op. Only those of the names above the last check take integers.
static Value unaryScalar(Lowering &l, OpBuilder &b, Location loc, Value x) {
  StringRef op = l.name();
  Type type = x.getType();
  auto attr = [&](StringRef key, double otherwise) {
    return number(b, loc, type, onnx::getFloat(l.op, key, otherwise));
  };
  if (op == "Identity")
    return x;
  if (op == "Relu")
    return l.isUnsigned(0) ? x : whereNegative(b, loc, x, number(b, loc, type, 0));
  if (op == "Abs" && !isFloat(x))
    return l.isUnsigned(0) ? x : math::AbsIOp::create(b, loc, x).getResult();
  if (op == "Neg" && !isFloat(x))
    return arith::SubIOp::create(b, loc, number(b, loc, type, 0), x);
  if (op == "Not")
    return arith::XOrIOp::create(b, loc, x, arith::ConstantOp::create(b, loc, b.getBoolAttr(true)));
  if (op == "Sign") {
    Value zero = number(b, loc, type, 0), one = number(b, loc, type, 1);
    if (!isFloat(x)) {
      Value sign = l.isUnsigned(0) ? one : whereNegative(b, loc, x, number(b, loc, type, -1));
      Value isZero = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, x, zero);
      Value positive = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sgt, x, zero);
      if (!l.isUnsigned(0))
        sign = arith::SelectOp::create(b, loc, positive, one, sign);
      return arith::SelectOp::create(b, loc, isZero, zero, sign);
    }
    Value positive = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, x, zero);
    Value negative = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, zero);
    return arith::SelectOp::create(
        b, loc, positive, one,
        arith::SelectOp::create(b, loc, negative, number(b, loc, type, -1), x));
  }
  static const llvm::StringMap<Value (*)(OpBuilder &, Location, Value)> direct = {
      {"Abs", floatOnly<math::AbsFOp>},
      {"Acos", floatOnly<math::AcosOp>},
      {"Acosh", floatOnly<math::AcoshOp>},
      {"Asin", floatOnly<math::AsinOp>},
      {"Asinh", floatOnly<math::AsinhOp>},
      {"Atan", floatOnly<math::AtanOp>},
      {"Atanh", floatOnly<math::AtanhOp>},
      {"Cosh", floatOnly<math::CoshOp>},
      {"Sinh", floatOnly<math::SinhOp>},
      {"Tan", floatOnly<math::TanOp>},
      {"Ceil", floatOnly<math::CeilOp>},
      {"Cos", floatOnly<math::CosOp>},
      {"Erf", floatOnly<math::ErfOp>},
      {"Exp", floatOnly<math::ExpOp>},
      {"Floor", floatOnly<math::FloorOp>},
      {"Log", floatOnly<math::LogOp>},
      {"Neg", floatOnly<arith::NegFOp>},
      {"Sin", floatOnly<math::SinOp>},
      {"Sqrt", floatOnly<math::SqrtOp>},
      {"Tanh", floatOnly<math::TanhOp>},
      {"Round", floatOnly<math::RoundEvenOp>},
      {"Sigmoid", sigmoid},
      {"Softplus", softplus}};
  if (auto apply = direct.lookup(op))
    return apply(b, loc, x);
  Value one = number(b, loc, type, 1);
  if (op == "Reciprocal")
    return arith::DivFOp::create(b, loc, one, x);
  if (op == "Softsign")
    return arith::DivFOp::create(
        b, loc, x, arith::AddFOp::create(b, loc, one, math::AbsFOp::create(b, loc, x)));
  if (op == "LeakyRelu")
    return whereNegative(b, loc, x, arith::MulFOp::create(b, loc, x, attr("alpha", 0.01)));
  if (op == "Elu") {
    Value e = arith::SubFOp::create(b, loc, math::ExpOp::create(b, loc, x), one);
    return whereNegative(b, loc, x, arith::MulFOp::create(b, loc, e, attr("alpha", 1)));
  }
  if (op == "Swish") {
    Value scaled = arith::MulFOp::create(b, loc, x, attr("alpha", 1));
    return arith::MulFOp::create(b, loc, x, sigmoid(b, loc, scaled));
  }
  if (op == "HardSigmoid" || op == "HardSwish") {
    bool swish = op == "HardSwish";
    Value alpha = swish ? number(b, loc, type, 1.0 / 6) : attr("alpha", 0.2);
    Value beta = swish ? number(b, loc, type, 0.5) : attr("beta", 0.5);
    Value line = arith::AddFOp::create(b, loc, arith::MulFOp::create(b, loc, alpha, x), beta);
    Value gate = clampTo(b, loc, line, 0, 1);
    return swish ? arith::MulFOp::create(b, loc, x, gate).getResult() : gate;
  }
  // Gelu.
  Value half = number(b, loc, type, 0.5);
  Value inner;
  if (onnx::getString(l.op, "approximate", "none") == "tanh") {
    Value cube = arith::MulFOp::create(b, loc, x, arith::MulFOp::create(b, loc, x, x));
    cube = arith::MulFOp::create(b, loc, cube, number(b, loc, type, 0.044715));
    cube = arith::AddFOp::create(b, loc, x, cube);
    cube = arith::MulFOp::create(b, loc, cube, number(b, loc, type, 0.7978845608028654));
    inner = math::TanhOp::create(b, loc, cube);
  } else {
    Value scaled = arith::MulFOp::create(b, loc, x, number(b, loc, type, 0.7071067811865476));
    inner = math::ErfOp::create(b, loc, scaled);
  }
  return arith::MulFOp::create(b, loc, arith::MulFOp::create(b, loc, half, x),
                               arith::AddFOp::create(b, loc, one, inner));
}

static LogicalResult unary(Lowering &l) {
  Type type = toSignless(l.element(0));
  static const llvm::StringSet<> onIntegers = {"Abs", "Identity", "Neg", "Not", "Relu", "Sign"};
  if (!isa<FloatType>(type) && !onIntegers.contains(l.name()))
    return l.unsupported("elements cannot be of this type");
  return l.replace(l.elementwise({0}, type, [&](OpBuilder &b, Location loc, ValueRange v) {
    return unaryScalar(l, b, loc, v[0]);
  }));
}

/// Integer division: truncates; by 0, which ONNX leaves open, gives the dividend instead of a trap.
static Value divideIntegers(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned) {
  Value zero = number(b, loc, x.getType(), 0), one = number(b, loc, x.getType(), 1);
  auto equal = [&](Value v, Value w) {
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, v, w).getResult();
  };
  Value safe = arith::SelectOp::create(b, loc, equal(y, zero), one, y);
  if (isUnsigned)
    return arith::DivUIOp::create(b, loc, x, safe);
  Value minus = equal(y, number(b, loc, x.getType(), -1));
  safe = arith::SelectOp::create(b, loc, minus, one, safe);
  Value quotient = arith::DivSIOp::create(b, loc, x, safe);
  return arith::SelectOp::create(b, loc, minus, arith::SubIOp::create(b, loc, zero, x), quotient);
}

static Value modulo(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned, bool fmod) {
  if (isFloat(x)) {
    Value rest = arith::RemFOp::create(b, loc, x, y);
    if (fmod)
      return rest;
    using P = arith::CmpFPredicate;
    Value zero = number(b, loc, x.getType(), 0);
    Value differs = arith::XOrIOp::create(b, loc, arith::CmpFOp::create(b, loc, P::OLT, rest, zero),
                                          arith::CmpFOp::create(b, loc, P::OLT, y, zero));
    Value wrong =
        arith::AndIOp::create(b, loc, differs, arith::CmpFOp::create(b, loc, P::ONE, rest, zero));
    Value none = arith::CmpFOp::create(b, loc, P::OEQ, rest, zero);
    rest = arith::SelectOp::create(b, loc, none, math::CopySignOp::create(b, loc, zero, y), rest);
    return arith::SelectOp::create(b, loc, wrong, arith::AddFOp::create(b, loc, rest, y), rest);
  }
  Value quotient = divideIntegers(b, loc, x, y, isUnsigned);
  Value rest = arith::SubIOp::create(b, loc, x, arith::MulIOp::create(b, loc, quotient, y));
  if (isUnsigned || fmod)
    return rest;
  // The sign of the divisor.
  Value zero = number(b, loc, x.getType(), 0);
  auto less = [&](Value v) {
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, v, zero).getResult();
  };
  Value differs = arith::XOrIOp::create(b, loc, less(rest), less(y));
  Value some = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, rest, zero);
  Value wrong = arith::AndIOp::create(b, loc, differs, some);
  return arith::SelectOp::create(b, loc, wrong, arith::AddIOp::create(b, loc, rest, y), rest);
}

static Value binaryScalar(Lowering &l, OpBuilder &b, Location loc, Value x, Value y) {
  StringRef op = l.name();
  bool floating = isFloat(x), isUnsigned = l.isUnsigned(0);
  if (op == "Add" || op == "Sum" || op == "Mean")
    return addScalars(b, loc, x, y);
  if (op == "Sub")
    return floating ? arith::SubFOp::create(b, loc, x, y).getResult()
                    : arith::SubIOp::create(b, loc, x, y).getResult();
  if (op == "Mul")
    return mulScalars(b, loc, x, y);
  if (op == "Div")
    return floating ? arith::DivFOp::create(b, loc, x, y).getResult()
                    : divideIntegers(b, loc, x, y, isUnsigned);
  if (op == "Max")
    return maxScalars(b, loc, x, y, isUnsigned);
  if (op == "Min")
    return minScalars(b, loc, x, y, isUnsigned);
  if (op == "Mod")
    return modulo(b, loc, x, y, isUnsigned, l.attr("fmod", 0));
  if (op == "And")
    return arith::AndIOp::create(b, loc, x, y);
  if (op == "Or")
    return arith::OrIOp::create(b, loc, x, y);
  if (op == "Xor")
    return arith::XOrIOp::create(b, loc, x, y);
  if (op == "PRelu")
    return isUnsigned ? x : whereNegative(b, loc, x, mulScalars(b, loc, x, y));
  // Comparisons.
  using F = arith::CmpFPredicate;
  using I = arith::CmpIPredicate;
  auto compare = [&](F f, I s, I u) -> Value {
    if (floating)
      return arith::CmpFOp::create(b, loc, f, x, y);
    return arith::CmpIOp::create(b, loc, isUnsigned ? u : s, x, y);
  };
  if (op == "Equal")
    return compare(F::OEQ, I::eq, I::eq);
  if (op == "Less")
    return compare(F::OLT, I::slt, I::ult);
  if (op == "LessOrEqual")
    return compare(F::OLE, I::sle, I::ule);
  if (op == "Greater")
    return compare(F::OGT, I::sgt, I::ugt);
  return compare(F::OGE, I::sge, I::uge); // GreaterOrEqual
}

static LogicalResult binary(Lowering &l) {
  SmallVector<unsigned> operands = llvm::to_vector(llvm::seq(l.op->getNumOperands()));
  Type element = l.resultType().getElementType();
  return l.replace(l.elementwise(operands, element, [&](OpBuilder &b, Location loc, ValueRange v) {
    Value result = v[0];
    for (Value next : v.drop_front())
      result = binaryScalar(l, b, loc, result, next);
    if (l.name() == "Mean")
      result =
          arith::DivFOp::create(b, loc, result, number(b, loc, result.getType(), operands.size()));
    return result;
  }));
}

/// The one number that operand i holds, if it is a constant of equal elements.
static std::optional<double> splat(Lowering &l, unsigned i) {
  std::optional<ConstantData> data = ConstantData::get(onnx::getOperand(l.op, i));
  if (!data || data->getType().getNumElements() != 1)
    return std::nullopt;
  if (isa<FloatType>(data->getType().getElementType()))
    return data->toFloats()[0];
  return (double)data->toInts()[0];
}

/// x to the power of y by squaring; a negative power is 1 / x cut to an integer, so 0 unless x is 1
/// or -1.
static Value integerPower(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned) {
  Type type = x.getType();
  Value zero = number(b, loc, type, 0), one = number(b, loc, type, 1);
  Value start = arith::ConstantIndexOp::create(b, loc, 0),
        step = arith::ConstantIndexOp::create(b, loc, 1);
  Value bits = arith::ConstantIndexOp::create(b, loc, type.getIntOrFloatBitWidth());
  auto loop = scf::ForOp::create(
      b, loc, start, bits, step, ValueRange{one, x, y},
      [&](OpBuilder &nested, Location loc, Value, ValueRange state) {
        Value odd = arith::TruncIOp::create(nested, loc, nested.getI1Type(), state[2]);
        Value product = arith::MulIOp::create(nested, loc, state[0], state[1]);
        Value next = arith::SelectOp::create(nested, loc, odd, product, state[0]);
        Value square = arith::MulIOp::create(nested, loc, state[1], state[1]);
        Value rest = arith::ShRUIOp::create(nested, loc, state[2], one);
        scf::YieldOp::create(nested, loc, ValueRange{next, square, rest});
      });
  if (isUnsigned)
    return loop.getResult(0);
  auto equal = [&](Value v, Value w) {
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, v, w).getResult();
  };
  Value odd = equal(arith::AndIOp::create(b, loc, y, one), one);
  Value minus = number(b, loc, type, -1);
  Value inverse = arith::SelectOp::create(
      b, loc, equal(x, one), one,
      arith::SelectOp::create(b, loc, equal(x, minus),
                              arith::SelectOp::create(b, loc, odd, minus, one), zero));
  Value negative = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, y, zero);
  return arith::SelectOp::create(b, loc, negative, inverse, loop.getResult(0));
}

static LogicalResult power(Lowering &l) {
  Type element = l.resultType().getElementType();
  bool floating = isa<FloatType>(element);
  std::optional<double> exponent = floating ? splat(l, 1) : std::nullopt;
  bool viaDouble = !floating && isa<FloatType>(l.element(1));
  return l.replace(
      l.elementwise({0, 1}, element, [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
        Value x = v[0];
        if (viaDouble) {
          Type f64 = b.getF64Type();
          Value power = math::PowFOp::create(b, loc, castScalar(b, loc, x, l.element(0), f64),
                                             castScalar(b, loc, v[1], l.element(1), f64));
          return castScalar(b, loc, power, f64, l.element(0));
        }
        if (exponent == 1.0)
          return x;
        if (exponent == 2.0)
          return arith::MulFOp::create(b, loc, x, x);
        if (exponent == 3.0)
          return arith::MulFOp::create(b, loc, arith::MulFOp::create(b, loc, x, x), x);
        Value y = castScalar(b, loc, v[1], l.element(1), floating ? element : l.element(0));
        if (floating)
          return math::PowFOp::create(b, loc, x, y);
        return integerPower(b, loc, x, y, l.isUnsigned(0));
      }));
}

static LogicalResult cast(Lowering &l) {
  Type from = l.element(0);
  Type to = mlir::cast<ShapedType>(l.op->getResult(0).getType()).getElementType();
  if (from.isF64() && isa<FloatType>(to) && isByteStored(to))
    return l.unsupported("f64 to a float of 8 bits or less");
  return l.replace(
      l.elementwise({0}, toSignless(to), [&](OpBuilder &b, Location loc, ValueRange v) {
        return castScalar(b, loc, v[0], from, to, l.attr("saturate", 1),
                          onnx::getString(l.op, "round_mode", "up"));
      }));
}

/// x + bias below -lambd, x - bias above lambd, 0 between; the bounds are compared in f64, which
/// integers fit or saturate in.
static LogicalResult shrink(Lowering &l) {
  Type type = l.element(0), element = toSignless(type), f64 = l.b.getF64Type();
  Value lambda = l.scalar(f64, onnx::getFloat(l.op, "lambd", 0.5));
  Value minusLambda = l.scalar(f64, -onnx::getFloat(l.op, "lambd", 0.5));
  Value bias = l.scalar(element, onnx::getFloat(l.op, "bias", 0)), zero = l.scalar(element, 0);
  return l.replace(
      l.elementwise({0}, element, [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
        Value x = castScalar(b, loc, v[0], type, f64);
        Value below = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, minusLambda);
        Value above = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, x, lambda);
        Value less = isFloat(v[0]) ? arith::SubFOp::create(b, loc, v[0], bias).getResult()
                                   : arith::SubIOp::create(b, loc, v[0], bias).getResult();
        Value otherwise = arith::SelectOp::create(b, loc, above, less, zero);
        return arith::SelectOp::create(b, loc, below, addScalars(b, loc, v[0], bias), otherwise);
      }));
}

static LogicalResult where(Lowering &l) {
  return l.replace(l.elementwise({0, 1, 2}, l.resultType().getElementType(),
                                 [](OpBuilder &b, Location loc, ValueRange v) -> Value {
                                   return arith::SelectOp::create(b, loc, v[0], v[1], v[2]);
                                 }));
}

static LogicalResult clip(Lowering &l) {
  SmallVector<unsigned> operands = {0};
  for (unsigned i : {1u, 2u})
    if (l.has(i))
      operands.push_back(i);
  bool isUnsigned = l.isUnsigned(0);
  return l.replace(l.elementwise(operands, l.resultType().getElementType(),
                                 [&](OpBuilder &b, Location loc, ValueRange v) {
                                   Value x = v[0];
                                   if (l.has(1))
                                     x = maxScalars(b, loc, x, v[1], isUnsigned);
                                   if (l.has(2))
                                     x = minScalars(b, loc, x, v[v.size() - 1], isUnsigned);
                                   return x;
                                 }));
}

static LogicalResult classify(Lowering &l) {
  bool nan = l.name() == "IsNaN";
  bool positive = l.attr("detect_positive", 1), negative = l.attr("detect_negative", 1);
  return l.replace(
      l.elementwise({0}, l.b.getI1Type(), [&](OpBuilder &b, Location loc, ValueRange v) {
        if (nan)
          return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO, v[0], v[0]).getResult();
        Value found = arith::ConstantOp::create(b, loc, b.getBoolAttr(false));
        for (auto [wanted, sign] : {std::pair(positive, 1.0), {negative, -1.0}})
          if (wanted) {
            Value infinity = number(b, loc, v[0].getType(), sign * HUGE_VAL);
            Value is = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, v[0], infinity);
            found = arith::OrIOp::create(b, loc, found, is);
          }
        return found;
      }));
}

/// a * sigmoid(alpha * a) * b
static LogicalResult swiGLU(Lowering &l) {
  Type element = l.resultType().getElementType();
  if (!isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  Type wide = element.getIntOrFloatBitWidth() < 32 ? (Type)l.b.getF32Type() : element;
  double alpha = onnx::getFloat(l.op, "alpha", 1);
  return l.replace(l.elementwise({0, 1}, element, [&](OpBuilder &b, Location loc, ValueRange v) {
    Value gate = castScalar(b, loc, v[0], element, wide),
          linear = castScalar(b, loc, v[1], element, wide);
    Value scaled = arith::MulFOp::create(b, loc, gate, number(b, loc, wide, alpha));
    Value y = arith::MulFOp::create(b, loc, gate, sigmoid(b, loc, scaled));
    return castScalar(b, loc, arith::MulFOp::create(b, loc, y, linear), wide, element);
  }));
}

void lowbit::onnx::addElementwiseLowerings(LoweringTable &table) {
  for (StringRef name :
       {"Acos", "Acosh", "Asin",     "Asinh",       "Atan",      "Atanh",    "Cosh",
        "Sinh", "Tan",   "Abs",      "Ceil",        "Cos",       "Elu",      "Erf",
        "Exp",  "Floor", "Gelu",     "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
        "Log",  "Neg",   "Not",      "Reciprocal",  "Relu",      "Round",    "Sigmoid",
        "Sign", "Sin",   "Softplus", "Softsign",    "Sqrt",      "Swish",    "Tanh"})
    table[name] = unary;
  for (StringRef name :
       {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
        "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Sub", "Sum", "Xor"})
    table[name] = binary;
  table["Cast"] = cast;
  table["CastLike"] = cast;
  table["Clip"] = clip;
  table["IsInf"] = classify;
  table["IsNaN"] = classify;
  table["Pow"] = power;
  table["Shrink"] = shrink;
  table["Where"] = where;
  table["SwiGLU"] = swiGLU;
}
