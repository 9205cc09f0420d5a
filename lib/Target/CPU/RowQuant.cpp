//===- RowQuant.cpp - rows of f32 to integers, each with its own range ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// lowbit.dynamic_quantize {per_token} of a matrix [rows, K]: the smallest and the largest value of
// a row and 0, scale and zero point from them, then the row again. Operands: input f32 [rows, K],
// output i8 [rows, K], scales f32 [rows], zero points i8 [rows]. Every operation is one of the
// decomposition's, in f32; the order in which a minimum is taken does not matter.
//
//===----------------------------------------------------------------------===//
#include "KernelBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace lowbit;
using namespace lowbit::cpu;

namespace {
class RowQuant {
public:
  RowQuant(KernelBuilder &b, rt::KernelOp kernel, func::FuncOp function)
      : b(b), k(scheduleInt(kernel, "k")), symmetric(scheduleInt(kernel, "symmetric")),
        isSigned(scheduleInt(kernel, "signed")), chunk(scheduleInt(kernel, "chunk")),
        function(function) {}
  void run();

private:
  struct Range {
    Value low, high;
  };
  Range rangeOf(Value base);
  void quantizeRow(Value row);
  Value constant(double value, Type like);
  /// `compare(a, b) ? a : b`.
  Value choose(arith::CmpFPredicate compare, Value a, Value b);
  Value quantized(Value x, Value scale, Value zero);

  KernelBuilder &b;
  int64_t k;
  bool symmetric, isSigned;
  int64_t chunk;
  func::FuncOp function;
  Value input, output, scales, zeros; // Flat.
};
} // namespace

Value cpu::countRowQuantTasks(KernelBuilder &b, rt::KernelOp kernel, ValueRange memrefs) {
  return b.ceilDiv(b.dim(memrefs.back(), 0), scheduleInt(kernel, "chunk"));
}

Value RowQuant::constant(double value, Type like) {
  if (auto vector = dyn_cast<VectorType>(like))
    return b.constantVector(b.getF32FloatAttr(value), vector.getNumElements());
  return arith::ConstantOp::create(b, b.loc, b.getF32FloatAttr(value));
}

Value RowQuant::choose(arith::CmpFPredicate compare, Value first, Value second) {
  Value holds = arith::CmpFOp::create(b, b.loc, compare, first, second);
  return arith::SelectOp::create(b, b.loc, holds, first, second);
}

void RowQuant::run() {
  Block &entry = function.getBody().front();
  input = b.flatten(entry.getArgument(2));
  output = b.flatten(entry.getArgument(3));
  scales = entry.getArgument(4);
  zeros = entry.getArgument(5);
  Value rows = b.dim(entry.getArgument(5), 0), first = b.mul(entry.getArgument(0), chunk);
  Value end = b.min(b.mul(entry.getArgument(1), chunk), rows);
  b.loop(first, end, b.index(1), {}, [&](Value row, ValueRange) -> SmallVector<Value> {
    quantizeRow(row);
    return {};
  });
  func::ReturnOp::create(b, b.loc);
}

/// Of the K values from `base` on, and 0; NaN is no smaller and no larger than anything.
RowQuant::Range RowQuant::rangeOf(Value base) {
  Value none = b.constantVector(b.getF32FloatAttr(0), kLanes);
  auto less = arith::CmpFPredicate::OLT, greater = arith::CmpFPredicate::OGT;
  int64_t full = k / kLanes * kLanes;
  SmallVector<Value> range =
      b.loop(b.index(0), b.index(full), b.index(kLanes), {none, none},
             [&](Value at, ValueRange carried) -> SmallVector<Value> {
               Value x = b.load(input, b.add(base, at), kLanes);
               return {choose(less, x, carried[0]), choose(greater, x, carried[1])};
             });
  Value low = vector::ReductionOp::create(b, b.loc, vector::CombiningKind::MINNUMF, range[0]);
  Value high = vector::ReductionOp::create(b, b.loc, vector::CombiningKind::MAXNUMF, range[1]);
  range = b.loop(b.index(full), b.index(k), b.index(1), {low, high},
                 [&](Value at, ValueRange carried) -> SmallVector<Value> {
                   Value x = memref::LoadOp::create(b, b.loc, input, b.add(base, at));
                   return {choose(less, x, carried[0]), choose(greater, x, carried[1])};
                 });
  return {range[0], range[1]};
}

/// saturate(round_half_even(x / scale) + zero), of a number or a vector; NaN gives the least value.
Value RowQuant::quantized(Value x, Value scale, Value zero) {
  Type type = x.getType();
  Value q = arith::DivFOp::create(b, b.loc, x, scale);
  q = arith::AddFOp::create(b, b.loc, math::RoundEvenOp::create(b, b.loc, q).getResult(), zero);
  q = choose(arith::CmpFPredicate::OGT, q, constant(isSigned ? -128 : 0, type));
  q = choose(arith::CmpFPredicate::OLT, q, constant(isSigned ? 127 : 255, type));
  auto vector = dyn_cast<VectorType>(type);
  auto with = [&](Type element) { return vector ? Type(vector.clone(element)) : element; };
  Value integer = arith::FPToSIOp::create(b, b.loc, with(b.getI32Type()), q);
  return arith::TruncIOp::create(b, b.loc, with(b.getI8Type()), integer);
}

void RowQuant::quantizeRow(Value row) {
  Value base = b.mul(row, k);
  Range range = rangeOf(base);
  Type f32 = b.getF32Type();
  Value none = constant(0, f32), spread;
  if (symmetric) {
    Value negated = arith::SubFOp::create(b, b.loc, none, range.low);
    spread = choose(arith::CmpFPredicate::OGT, negated, range.high);
  } else {
    spread = arith::SubFOp::create(b, b.loc, range.high, range.low);
  }
  Value scale = arith::DivFOp::create(b, b.loc, spread, constant(symmetric ? 127 : 255, f32));
  Value isZero = arith::CmpFOp::create(b, b.loc, arith::CmpFPredicate::OEQ, scale, none);
  scale = arith::SelectOp::create(b, b.loc, isZero, constant(1, f32), scale);
  double least = isSigned ? -128 : 0;
  Value zero = constant(isSigned ? 0 : 128, f32);
  if (!symmetric) {
    zero = arith::SubFOp::create(b, b.loc, constant(least, f32),
                                 arith::DivFOp::create(b, b.loc, range.low, scale).getResult());
    zero = choose(arith::CmpFPredicate::OGT, zero, constant(least, f32));
    zero = choose(arith::CmpFPredicate::OLT, zero, constant(least + 255, f32));
    zero = math::RoundEvenOp::create(b, b.loc, zero);
  }
  memref::StoreOp::create(b, b.loc, scale, scales, row);
  Value stored = arith::FPToSIOp::create(b, b.loc, b.getI32Type(), zero);
  stored = arith::TruncIOp::create(b, b.loc, b.getI8Type(), stored);
  memref::StoreOp::create(b, b.loc, stored, zeros, row);

  int64_t full = k / kLanes * kLanes;
  Value scaleVector = b.splat(scale, kLanes), zeroVector = b.splat(zero, kLanes);
  b.loop(b.index(0), b.index(full), b.index(kLanes), {},
         [&](Value at, ValueRange) -> SmallVector<Value> {
           Value offset = b.add(base, at);
           b.store(quantized(b.load(input, offset, kLanes), scaleVector, zeroVector), output,
                   offset);
           return {};
         });
  b.loop(b.index(full), b.index(k), b.index(1), {},
         [&](Value at, ValueRange) -> SmallVector<Value> {
           Value offset = b.add(base, at);
           Value x = memref::LoadOp::create(b, b.loc, input, offset);
           memref::StoreOp::create(b, b.loc, quantized(x, scale, zero), output, offset);
           return {};
         });
}

void cpu::generateRowQuant(KernelBuilder &builder, rt::KernelOp kernel, const ISA &,
                           func::FuncOp function) {
  RowQuant(builder, kernel, function).run();
}
