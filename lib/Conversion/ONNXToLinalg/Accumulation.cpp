//===- Accumulation.cpp - sums of products -------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"

using namespace lowbit;
using namespace lowbit::onnx;

Type lowbit::onnx::accumulator(Type element) {
  if (isa<FloatType>(element) && element.getIntOrFloatBitWidth() < 32)
    return Float32Type::get(element.getContext());
  return element;
}

void lowbit::onnx::multiplyAdd(OpBuilder &b, Location loc, ValueRange v) {
  Type sum = v[2].getType();
  auto widen = [&](Value x) -> Value {
    return x.getType() == sum ? x : arith::ExtFOp::create(b, loc, sum, x).getResult();
  };
  Value product = mulScalars(b, loc, widen(v[0]), widen(v[1]));
  linalg::YieldOp::create(b, loc, addScalars(b, loc, v[2], product));
}

Value lowbit::onnx::narrow(Lowering &l, Value tensor, Type element) {
  auto type = cast<RankedTensorType>(tensor.getType());
  if (type.getElementType() == element)
    return tensor;
  return l.parallel(tensor, l.b.getMultiDimIdentityMap(type.getRank()), l.sizes(tensor), element,
                    [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                      return arith::TruncFOp::create(b, loc, element, v[0]);
                    });
}
