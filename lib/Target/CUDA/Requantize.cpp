//===- Requantize.cpp - the end of every integer kernel ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Requantize.h"

using namespace lowbit;
using namespace lowbit::cuda;

Requantize::Requantize(KernelBuilder &b, const Schedule &schedule, Value parameters)
    : b(b), s(schedule), parameters(parameters) {
  Type type = s.output == Element::F32 ? b.f32() : b.i32();
  low = b.load(type, b.at(parameters, kParamClampLow * 4), 4);
  high = b.load(type, b.at(parameters, kParamClampHigh * 4), 4);
  zero = b.load(b.i32(), b.at(parameters, kParamZero * 4), 4);
}

Value Requantize::finish(Value sum, Value bias, Value multiplier) {
  Value total = b.add(sum, bias);
  Value real = arith::MulFOp::create(b, arith::SIToFPOp::create(b, b.f32(), total), multiplier);
  if (s.output == Element::F32) {
    Value below = arith::CmpFOp::create(b, arith::CmpFPredicate::OLT, real, low);
    return b.select(below, low, real);
  }
  // The bounds are those of the type (and of relu) less the zero point, so that adding it cannot
  // overflow.
  Value bounded = b.minS(b.maxS(b.roundToInt(real), low), high);
  return arith::TruncIOp::create(b, b.i8(), b.add(bounded, zero));
}

void Requantize::store(ArrayRef<Value> sums, Value column, Value output, Value offset) {
  int64_t count = sums.size(), bytes = s.output == Element::F32 ? 4 : 1;
  Value vectors = b.at(parameters, b.mul(column, 4), kParamHeader * 4);
  Value biases = b.load(b.vec(count, b.i32()), vectors, 4 * count);
  Value multipliers = b.load(b.vec(count, b.f32()), b.at(vectors, s.paddedN() * 4), 4 * count);
  SmallVector<Value> results;
  for (int64_t i = 0; i < count; ++i)
    results.push_back(finish(sums[i], b.element(biases, i), b.element(multipliers, i)));
  Value scaled =
      b.createOrFold<arith::MulIOp>(offset, arith::ConstantIntOp::create(b, b.getI64Type(), bytes));
  b.store(count == 1 ? results[0] : b.pack(results), b.at(output, scaled), bytes * count);
}

RunTimeScales::Row RunTimeScales::row(Value index) const {
  bool perRow = s.scales == Scales::Row;
  Value scale = b.load(b.f32(), perRow ? b.at(scales, b.wide(index, 4)) : scales, 4);
  Value zero = b.load(b.i8(), perRow ? b.at(zeros, b.wide(index, 1)) : zeros, 1);
  return {scale, s.input == Element::U8 ? b.zext(zero) : b.sext(zero)};
}

void RunTimeScales::store(const Row &row, ArrayRef<Value> sums, Value column, Value output,
                          Value offset) const {
  int64_t count = sums.size();
  auto vector = [&](Type element, int64_t number) {
    Value at = b.at(parameters, b.mul(column, 4), (kParamHeader + number * s.paddedN()) * 4);
    return b.load(b.vec(count, element), at, 4 * count);
  };
  Value biases = vector(b.f32(), 0), weightScales = vector(b.f32(), 1),
        columnSums = vector(b.i32(), 2);
  SmallVector<Value> results;
  for (int64_t i = 0; i < count; ++i) {
    Value sum = b.sub(sums[i], b.mul(row.zero, b.element(columnSums, i)));
    Value real = arith::MulFOp::create(b, arith::SIToFPOp::create(b, b.f32(), sum),
                                       b.element(weightScales, i));
    real = arith::MulFOp::create(b, real, row.scale);
    real = arith::AddFOp::create(b, real, b.element(biases, i));
    Value below = arith::CmpFOp::create(b, arith::CmpFPredicate::OLT, real, low);
    results.push_back(b.select(below, low, real));
  }
  Value bytes =
      b.createOrFold<arith::MulIOp>(offset, arith::ConstantIntOp::create(b, b.getI64Type(), 4));
  b.store(count == 1 ? results[0] : b.pack(results), b.at(output, bytes), 4 * count);
}
