//===- Bits.cpp - shifts, bitwise logic, reinterpretation -------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace lowbit;
using namespace lowbit::onnx;

/// A shift by the width or more leaves 0, or the sign to the right; MLIR's own would be poison.
static LogicalResult bitShift(Lowering &l) {
  StringRef direction = onnx::getString(l.op, "direction", "");
  if (direction != "LEFT" && direction != "RIGHT")
    return l.unsupported("direction '" + direction + "'");
  bool left = direction == "LEFT", isUnsigned = l.isUnsigned(0);
  Type element = l.resultType().getElementType();
  if (!element.isInteger() || element.isInteger(1))
    return l.unsupported("elements cannot be of this type");
  Value last = l.scalarInt(element, element.getIntOrFloatBitWidth() - 1);
  Value zero = l.scalarInt(element, 0);
  return l.replace(
      l.elementwise({0, 1}, element, [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
        Value fits = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ule, v[1], last);
        Value amount = arith::MinUIOp::create(b, loc, v[1], last);
        if (!left && !isUnsigned)
          return arith::ShRSIOp::create(b, loc, v[0], amount);
        Value shifted = left ? arith::ShLIOp::create(b, loc, v[0], amount).getResult()
                             : arith::ShRUIOp::create(b, loc, v[0], amount).getResult();
        return arith::SelectOp::create(b, loc, fits, shifted, zero);
      }));
}

static LogicalResult bitwise(Lowering &l) {
  Type element = l.resultType().getElementType();
  if (!element.isInteger() || element.isInteger(1))
    return l.unsupported("elements cannot be of this type");
  StringRef name = l.name();
  if (name == "BitwiseNot") {
    Value ones = l.scalarInt(element, -1);
    return l.replace(
        l.elementwise({0}, element, [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
          return arith::XOrIOp::create(b, loc, v[0], ones);
        }));
  }
  return l.replace(
      l.elementwise({0, 1}, element, [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
        if (name == "BitwiseAnd")
          return arith::AndIOp::create(b, loc, v[0], v[1]);
        if (name == "BitwiseOr")
          return arith::OrIOp::create(b, loc, v[0], v[1]);
        return arith::XOrIOp::create(b, loc, v[0], v[1]);
      }));
}

/// A bool is a byte of 0 or 1 to those who look at its bits.
static LogicalResult bitCast(Lowering &l) {
  Type from = toSignless(l.element(0)), to = l.resultType().getElementType();
  auto width = [](Type type) { return std::max(type.getIntOrFloatBitWidth(), 8u); };
  if (from.getIntOrFloatBitWidth() == 4 || to.getIntOrFloatBitWidth() == 4 ||
      width(from) != width(to))
    return l.unsupported("a cast between elements of different width");
  return l.replace(l.elementwise({0}, to, [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
    if (from == to)
      return v[0];
    if (from.isInteger(1))
      return arith::ExtUIOp::create(b, loc, to, v[0]);
    if (to.isInteger(1)) {
      Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(from));
      return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, v[0], zero);
    }
    return arith::BitcastOp::create(b, loc, to, v[0]);
  }));
}

void lowbit::onnx::addBitLowerings(LoweringTable &table) {
  table["BitCast"] = bitCast;
  table["BitShift"] = bitShift;
  for (StringRef name : {"BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"})
    table[name] = bitwise;
}
