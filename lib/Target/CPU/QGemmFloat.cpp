//===- QGemmFloat.cpp - int8 GEMM whose sums are float ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Operands: input, weights (packed as in QGemm.cpp, less their zero points), bias f32, scales f32
// and column sums i32 [block][group][16 · nr], then scale f32 and zero point i32 of the (unsigned)
// input, one per row or one. Within a group sums are exact; over groups one f32 addition follows
// the other in order, and no product is fused with a sum, as in the decomposition.
//
//===----------------------------------------------------------------------===//
#include "QGemm.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace lowbit;
using namespace lowbit::cpu;

/// f32(Σ (a − z) · w) · s over the steps [from, to) of K: rows × groupVectors vectors.
SmallVector<Value> QGemm::groupInFloat(ArrayRef<Value> rowOffsets, ArrayRef<Value> zeros,
                                       Value weightBase, Value parameters, Value from, Value to) {
  int64_t width = kLanes * nr, lanes = variant.dotProduct ? kLanes : 8;
  Value none = b.constantVector(b.getI32IntegerAttr(0), lanes);
  SmallVector<Value> sums(rowOffsets.size() * partsPerRow(), none);
  sums = b.loop(from, to, b.index(1), sums, [&](Value k, ValueRange inner) {
    return step(rowOffsets, b.mul(k, 4), b.add(weightBase, b.mul(k, width * 4)), inner);
  });
  auto floats = VectorType::get({kLanes}, b.getF32Type());
  SmallVector<Value> scale, columnSum, result;
  for (int64_t j = 0; j < groupVectors; ++j) {
    Value at = b.add(parameters, j * kLanes);
    scale.push_back(b.load(multiplier, at, kLanes));
    columnSum.push_back(b.load(columnSums, at, kLanes));
  }
  for (auto [i, zero] : llvm::enumerate(zeros)) {
    ArrayRef<Value> parts = ArrayRef(sums).slice(i * partsPerRow(), partsPerRow());
    for (int64_t j = 0; j < groupVectors; ++j) {
      Value sum = variant.dotProduct ? parts[j] : columns(parts);
      // Σ (a − z) w = Σ a w − z Σ w, modulo 2³² as the accumulator.
      Value shift = arith::MulIOp::create(b, b.loc, zero, columnSum[j]);
      Value real = arith::SIToFPOp::create(b, b.loc, floats,
                                           arith::SubIOp::create(b, b.loc, sum, shift).getResult());
      result.push_back(arith::MulFOp::create(b, b.loc, real, scale[j]));
    }
  }
  return result;
}

void QGemm::tileInFloat(const Chunk &chunk, Value row, int64_t rows, Value block, Value group) {
  int64_t width = kLanes * nr;
  Value column = b.add(b.mul(block, width), b.mul(group, kLanes * groupVectors));
  Value weightBase =
      b.add(b.mul(block, steps * width * 4), b.mul(group, kLanes * groupVectors * 4));
  SmallVector<Value> rowOffsets, scales, zeros;
  for (int64_t i = 0; i < rows; ++i) {
    rowOffsets.push_back(b.add(chunk.input, b.mul(b.add(row, i), chunk.pixel)));
    Value at = perRow ? b.add(chunk.first, b.add(row, i)) : b.index(0);
    scales.push_back(b.splat(memref::LoadOp::create(b, b.loc, inputScale, at), kLanes));
    zeros.push_back(b.splat(memref::LoadOp::create(b, b.loc, inputZero, at), kLanes));
  }
  Value parameters = b.add(b.mul(block, groups * width), b.mul(group, kLanes * groupVectors));
  SmallVector<Value> sums;
  if (groups == 1) {
    sums = groupInFloat(rowOffsets, zeros, weightBase, parameters, b.index(0), b.index(steps));
  } else {
    sums.assign(rows * groupVectors, b.constantVector(b.getF32FloatAttr(0), kLanes));
    sums = b.loop(b.index(0), b.index(groups), b.index(1), sums, [&](Value g, ValueRange outer) {
      Value from = b.mul(g, groupSteps), to = b.min(b.add(from, groupSteps), b.index(steps));
      SmallVector<Value> next =
          groupInFloat(rowOffsets, zeros, weightBase, b.add(parameters, b.mul(g, width)), from, to);
      for (auto [sum, before] : llvm::zip_equal(next, outer))
        sum = arith::AddFOp::create(b, b.loc, before, sum);
      return next;
    });
  }
  for (int64_t i = 0; i < rows; ++i) {
    Value outputRow = b.add(chunk.output, b.mul(b.add(row, i), n));
    for (int64_t j = 0; j < groupVectors; ++j) {
      Value at = b.add(column, j * kLanes);
      finishInFloat(sums[i * groupVectors + j], scales[i], at, b.add(outputRow, at));
    }
  }
}

void QGemm::finishInFloat(Value sum, Value scale, Value column, Value outputOffset) {
  Value result = arith::MulFOp::create(b, b.loc, sum, scale);
  if (bool(scheduleInt(kernel, "bias")))
    result = arith::AddFOp::create(b, b.loc, result, b.load(bias, column, kLanes));
  if (relu) {
    Value zero = b.constantVector(b.getF32FloatAttr(0), kLanes);
    // Unordered: a NaN passes, as in the float model.
    Value negative = arith::CmpFOp::create(b, b.loc, arith::CmpFPredicate::OLT, result, zero);
    result = arith::SelectOp::create(b, b.loc, negative, zero, result);
  }
  storeColumns(result, column, outputOffset);
}
