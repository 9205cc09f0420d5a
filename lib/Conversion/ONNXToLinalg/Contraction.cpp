//===- Contraction.cpp - matrix products ------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Loops in the order m, k, n: the innermost one walks a row of B and of the
// result, so the compiler vectorizes it without reassociating any sum.
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

/// The product of operands 0 and 1, lowered to `a` and `b`.
static LogicalResult matMulOf(Lowering &l, Value a, Value b) {
  Dims aDims = l.dims(0), bDims = l.dims(1), result = l.resultDims();
  unsigned aInner = aDims.size() - 1, bInner = bDims.size() < 2 ? 0 : bDims.size() - 2;
  l.equalize(a, aInner, aDims[aInner], b, bInner, bDims[bInner], "the inner sizes");
  Type element = l.resultType().getElementType(), sum = accumulator(element);

  // Loops: the batch dims of the result, then m (unless A is a vector), k, n (unless B is one).
  bool hasM = aDims.size() > 1, hasN = bDims.size() > 1;
  unsigned batch = result.size() - hasM - hasN, loops = batch + hasM + 1 + hasN;
  unsigned m = batch, k = batch + hasM, n = k + 1;
  Sizes outer;
  Dims batchDims(result.begin(), result.begin() + batch);
  for (unsigned i = 0; i < batch; ++i) {
    OpFoldResult size = l.known(result[i]);
    if (!size) { // Two unequal symbols: one of them may be 1 at the run.
      Value left = l.value(l.dim(a, i - (batch + 2 - aDims.size())));
      Value right = l.value(l.dim(b, i - (batch + 2 - bDims.size())));
      Value isOne = arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, left, l.value(l.index(1)));
      Value rightOne =
          arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, right, l.value(l.index(1)));
      Value smaller = arith::MinSIOp::create(l.b, left, right);
      size = arith::SelectOp::create(l.b, isOne, right,
                                     arith::SelectOp::create(l.b, rightOne, left, smaller))
                 .getResult();
    }
    outer.push_back(size);
  }
  Sizes out = outer;
  if (hasM)
    out.push_back(l.dim(a, aDims.size() - 2));
  if (hasN)
    out.push_back(l.dim(b, bDims.size() - 1));

  auto operandMap = [&](Value &value, Dims dims, bool matrix, unsigned row,
                        unsigned column) -> AffineMap {
    // Batch dims broadcast; the matrix dims stand behind them as they are.
    Dims to = batchDims;
    Sizes toSizes = outer;
    unsigned tail = matrix ? 2 : 1;
    for (unsigned i = dims.size() - tail; i < dims.size(); ++i) {
      to.push_back(dims[i]);
      toSizes.push_back(l.dim(value, i));
    }
    AffineMap map = l.broadcastMap(value, dims, to, toSizes);
    SmallVector<AffineExpr> exprs;
    for (AffineExpr expr : map.getResults()) {
      auto position = dyn_cast<AffineDimExpr>(expr);
      if (position && position.getPosition() >= batch)
        expr = l.d(position.getPosition() == batch ? row : column);
      exprs.push_back(expr);
    }
    // A matrix dim of size 1 is no broadcast.
    unsigned first = exprs.size() - tail;
    exprs[first] = l.d(row);
    if (matrix)
      exprs[first + 1] = l.d(column);
    return l.mapOf(loops, exprs);
  };
  AffineMap aMap = operandMap(a, aDims, hasM, hasM ? m : k, k);
  AffineMap bMap = operandMap(b, bDims, hasN, k, n);
  SmallVector<AffineExpr> outExprs;
  for (unsigned i = 0; i < loops; ++i)
    if (i != k)
      outExprs.push_back(l.d(i));
  SmallVector<IteratorType> iterators(loops, IteratorType::parallel);
  iterators[k] = IteratorType::reduction;
  Value init = l.filled(out, l.scalar(sum, 0));
  Value product = l.generic({a, b}, init, {aMap, bMap, l.mapOf(loops, outExprs)}, iterators,
                            multiplyAdd);
  return l.replace(narrow(l, product, element));
}

static LogicalResult matMul(Lowering &l) { return matMulOf(l, l.in(0), l.in(1)); }

/// Zero points are per row of A and per column of B.
static LogicalResult matMulInteger(Lowering &l) {
  FailureOr<Value> a = lessZeroPoint(l, 0, 2, l.rank(0) - 2), b = lessZeroPoint(l, 1, 3, l.rank(1) - 1);
  return failed(a) || failed(b) ? failure() : matMulOf(l, *a, *b);
}

/// The transposed matrix: at compile time where it is a constant.
static Value transposed(Lowering &l, unsigned operand) {
  std::optional<ConstantData> data = ConstantData::get(l.op->getOperand(operand));
  if (!data)
    return l.transpose(l.in(operand), {1, 0});
  int64_t rows = data->getType().getDimSize(0), columns = data->getType().getDimSize(1);
  int64_t width = bytesPerElement(data->getType().getElementType());
  std::vector<char> bytes = permuted(data->bytes(), {rows, columns}, {1, 0}, width);
  auto type = RankedTensorType::get({columns, rows}, toSignless(data->getType().getElementType()));
  return l.constant(cast<TypedAttr>(makeConstant(type, bytes, "transposed")));
}

static LogicalResult gemm(Lowering &l) {
  bool transA = l.attr("transA", 0), transB = l.attr("transB", 0);
  Dims aDims = l.dims(0), bDims = l.dims(1);
  Value a = l.in(0), b = l.in(1);
  Type element = l.resultType().getElementType(), sum = accumulator(element);
  if (transB) {
    b = transposed(l, 1);
    std::swap(bDims[0], bDims[1]);
  }
  l.equalize(a, transA ? 0 : 1, aDims[transA ? 0 : 1], b, 0, bDims[0], "the inner sizes");
  Sizes out = {l.dim(a, transA ? 1 : 0), l.dim(b, 1)};
  double alpha = onnx::getFloat(l.op, "alpha", 1), beta = onnx::getFloat(l.op, "beta", 1);
  bool bias = l.has(2) && beta != 0;

  auto scaled = [&](OpBuilder &nested, Location loc, Value x, double factor) -> Value {
    if (x.getType() != sum)
      x = arith::ExtFOp::create(nested, loc, sum, x);
    if (factor == 1)
      return x;
    TypedAttr attr = isa<FloatType>(sum) ? (TypedAttr)nested.getFloatAttr(sum, factor)
                                         : nested.getIntegerAttr(sum, (int64_t)factor);
    return mulScalars(nested, loc, x, arith::ConstantOp::create(nested, loc, attr));
  };
  auto broadcastBias = [&] {
    Value c = l.in(2);
    AffineMap map = l.broadcastMap(c, l.dims(2), l.resultDims(), out);
    return l.parallel(c, map, out, sum, [&](OpBuilder &nested, Location loc, ValueRange v) {
      return scaled(nested, loc, v[0], beta);
    });
  };
  Value init = bias && alpha == 1 ? broadcastBias() : l.filled(out, l.scalar(sum, 0));
  AffineMap aMap = transA ? l.mapOf(3, {l.d(1), l.d(0)}) : l.mapOf(3, {l.d(0), l.d(1)});
  Value product = l.generic(
      {a, b}, init, {aMap, l.mapOf(3, {l.d(1), l.d(2)}), l.mapOf(3, {l.d(0), l.d(2)})},
      {IteratorType::parallel, IteratorType::reduction, IteratorType::parallel}, multiplyAdd);
  if (alpha != 1) {
    AffineMap identity = l.b.getMultiDimIdentityMap(2);
    SmallVector<Value> inputs = {product};
    if (bias)
      inputs.push_back(broadcastBias());
    SmallVector<AffineMap> maps(inputs.size(), identity);
    product = l.parallel(inputs, maps, out, sum, [&](OpBuilder &nested, Location loc, ValueRange v) {
      Value x = scaled(nested, loc, v[0], alpha);
      return bias ? addScalars(nested, loc, x, v[1]) : x;
    });
  }
  return l.replace(narrow(l, product, element));
}

void lowbit::onnx::addContractionLowerings(LoweringTable &table) {
  table["Gemm"] = gemm;
  table["MatMul"] = matMul;
  table["MatMulInteger"] = matMulInteger;
}
