//===- WeightFragments.cpp - weights on f16 tensor cores ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "WeightFragments.h"

using namespace lowbit;
using namespace lowbit::cuda;

std::array<Value, 2> WeightFragments::unpack(Value words, int64_t step, int64_t tile,
                                             Value zero) const {
  Type pair = b.pair16();
  int64_t local = step % stepsPerLoad();
  if (s.bits == 16)
    return {b.bitcast(b.element(words, 2 * tile), pair),
            b.bitcast(b.element(words, 2 * tile + 1), pair)};
  Value low, high;
  if (s.bits == 4) {
    Value word = b.shr(b.element(words, local), 8 * tile), magic = b.c(0x64006400);
    low = b.bitcast(b.maskOr(word, b.c(0x000f000f), magic), pair);
    high = b.bitcast(b.maskOr(word, b.c(0x00f000f0), magic), pair);
    // zero is 1024 + z in both halves: 64 + q − (64 + z), one rounding, exact.
    Value less = arith::SubFOp::create(b, b.cf(960.0, pair), zero);
    high = LLVM::FMAOp::create(b, high, b.cf(0.0625, pair), less);
  } else {
    Value word = b.element(words, local * 2 + tile), magic = b.c(0x64646464);
    low = b.bitcast(b.intrinsic("llvm.nvvm.prmt", b.i32(), {word, magic, b.c(0x4140)}), pair);
    high = b.bitcast(b.intrinsic("llvm.nvvm.prmt", b.i32(), {word, magic, b.c(0x4342)}), pair);
    high = arith::SubFOp::create(b, high, zero);
  }
  return {arith::SubFOp::create(b, low, zero), high};
}

Value WeightFragments::zero(Value group, Value column) const {
  if (s.bits == 16)
    return Value();
  int64_t at = (kParamHeader + s.paddedN() + s.paddedGroups() * s.paddedN()) * 4;
  Value index = b.add(b.mul(group, s.paddedN()), column);
  Value stored = b.zext(b.load(b.i8(), b.at(parameters, index, at), 1));
  return b.bitcast(b.mul(b.bitOr(stored, b.c(0x6400)), 0x10001), b.pair16());
}

Value WeightFragments::scale(Value group, Value column, int64_t count) const {
  Value index = b.add(b.mul(group, s.paddedN()), column);
  Value address = b.at(parameters, b.mul(index, 4), (kParamHeader + s.paddedN()) * 4);
  return b.load(count == 1 ? b.f32() : b.vec(count, b.f32()), address, 4 * count);
}

FloatEpilogue::FloatEpilogue(KernelBuilder &b, const Schedule &s, Value parameters)
    : b(b), s(s), parameters(parameters),
      low(b.load(b.f32(), b.at(parameters, kParamClampLow * 4), 4)) {}

Value FloatEpilogue::bias(Value column, int64_t count) const {
  return b.load(count == 1 ? b.f32() : b.vec(count, b.f32()),
                b.at(parameters, b.mul(column, 4), kParamHeader * 4), 4 * count);
}

Value FloatEpilogue::finish(Value sum, Value scale, Value bias) const {
  Value real = scale ? Value(arith::MulFOp::create(b, sum, scale)) : sum;
  real = arith::AddFOp::create(b, real, bias);
  Value below = arith::CmpFOp::create(b, arith::CmpFPredicate::OLT, real, low);
  return b.select(below, low, real);
}
