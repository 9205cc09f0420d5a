//===- Accumulation.cpp - sums of products -------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

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

FailureOr<Value> lowbit::onnx::lessZeroPoint(Lowering &l, unsigned i, unsigned zero, int64_t axis) {
  int64_t rank = l.rank(i);
  Type i32 = l.b.getI32Type();
  SmallVector<Value> inputs = {l.in(i)};
  SmallVector<AffineMap> maps = {l.b.getMultiDimIdentityMap(rank)};
  if (l.has(zero)) {
    const Dims &dims = l.dims(zero);
    if (dims.empty())
      maps.push_back(l.mapOf(rank, {}));
    else if (dims.size() == 1 && dims[0].isConstant(1))
      maps.push_back(l.mapOf(rank, {l.b.getAffineConstantExpr(0)}));
    else if (dims.size() == 1 && axis >= 0 && axis < rank && dims[0] == l.dims(i)[axis])
      maps.push_back(l.mapOf(rank, {l.d(axis)}));
    else if (dims.size() != 1 || axis < 0 || axis >= rank ||
             (dims[0].constant() && l.dims(i)[axis].constant()))
      return l.unsupported("zero points that do not fit the operand");
    Value value = l.in(zero);
    if (maps.size() == 1) { // Only the run tells whether it is one or one per index.
      Dims from(rank, SymbolicExpr(1));
      from[axis] = dims[0];
      SmallVector<int64_t> shape(rank, 1);
      Sizes sizes(rank, l.index(1));
      shape[axis] = l.inType(zero).getDimSize(0);
      sizes[axis] = l.dim(value, 0);
      ReassociationIndices all = llvm::to_vector(llvm::seq<int64_t>(0, rank));
      if (rank > 1)
        value = tensor::ExpandShapeOp::create(l.b, l.inType(zero).clone(shape), value,
                                              ArrayRef<ReassociationIndices>{all}, sizes);
      maps.push_back(l.broadcastMap(value, from, l.dims(i), l.sizes(l.in(i))));
    }
    inputs.push_back(value);
  }
  return l.parallel(
      inputs, maps, l.sizes(l.in(i)), i32, [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
        Value q = castScalar(b, loc, v[0], l.element(i), i32);
        return v.size() == 1 ? q
                             : arith::SubIOp::create(b, loc, q,
                                                     castScalar(b, loc, v[1], l.element(zero), i32))
                                   .getResult();
      });
}
