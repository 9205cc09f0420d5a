//===- EmulatorHalf.cpp - fused multiply-add of f16 without a library ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "EmulatorHalf.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/Module.h"

using namespace llvm;

/// f64 to f16 with one rounding. The f32 on the way is rounded to odd (Boldo and Melquiond, 2008): it
/// has more than two bits beyond f16's, so the second rounding sees on which side it is.
static Value *roundToHalf(IRBuilder<> &b, Value *value, Type *half) {
  Type *type = value->getType();
  Type *single = type->getWithNewType(b.getFloatTy()), *word = type->getWithNewType(b.getInt32Ty());
  auto constant = [&](uint32_t bits) { return ConstantInt::get(word, bits); };
  Value *nearest = b.CreateFPTrunc(value, single);
  Value *back = b.CreateFPExt(nearest, type);
  Value *bits = b.CreateBitCast(nearest, word);
  // Towards zero: one less where the magnitude went up.
  Value *larger = b.CreateFCmpOGT(b.CreateUnaryIntrinsic(Intrinsic::fabs, back),
                                  b.CreateUnaryIntrinsic(Intrinsic::fabs, value));
  Value *towardsZero = b.CreateSelect(larger, b.CreateSub(bits, constant(1)), bits);
  Value *inexact = b.CreateFCmpONE(back, value);
  Value *odd = b.CreateSelect(inexact, b.CreateOr(towardsZero, constant(1)), bits);
  return b.CreateFPTrunc(b.CreateBitCast(odd, single), half);
}

void lowbit::cuda::expandHalfFMA(Module &module) {
  SmallVector<IntrinsicInst *> found;
  for (Function &function : module)
    for (BasicBlock &block : function)
      for (Instruction &instruction : block)
        if (auto *call = dyn_cast<IntrinsicInst>(&instruction))
          if (call->getIntrinsicID() == Intrinsic::fma &&
              call->getType()->getScalarType()->isHalfTy())
            found.push_back(call);
  for (IntrinsicInst *call : found) {
    IRBuilder<> b(call);
    Type *half = call->getType(), *wide = half->getWithNewType(b.getDoubleTy());
    // The product of two f16 is exact in f64. So is its sum with a third, except where it is below
    // 2^-31 of that one, and then no tie is near.
    Value *operands[3];
    for (unsigned i = 0; i < 3; ++i)
      operands[i] = b.CreateFPExt(call->getArgOperand(i), wide);
    Value *sum = b.CreateFAdd(b.CreateFMul(operands[0], operands[1]), operands[2]);
    call->replaceAllUsesWith(roundToHalf(b, sum, half));
    call->eraseFromParent();
  }
}
