//===- EmulatorSmallFloats.cpp - roundings that x86 leaves to a library ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "EmulatorSmallFloats.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/Module.h"

using namespace llvm;

/// f64 to f32, inexact ones rounded to odd (Boldo and Melquiond, 2008): an f32 has more than two
/// bits beyond f16 and bf16, so a second rounding sees on which side of a tie the number is.
static Value *roundToOdd(IRBuilder<> &b, Value *value) {
  Value *nearest = b.CreateFPTrunc(value, b.getFloatTy());
  Value *back = b.CreateFPExt(nearest, b.getDoubleTy());
  Value *bits = b.CreateBitCast(nearest, b.getInt32Ty());
  // Towards zero: one less where the magnitude went up.
  Value *larger = b.CreateFCmpOGT(b.CreateUnaryIntrinsic(Intrinsic::fabs, back),
                                  b.CreateUnaryIntrinsic(Intrinsic::fabs, value));
  Value *towardsZero = b.CreateSelect(larger, b.CreateSub(bits, b.getInt32(1)), bits);
  Value *odd =
      b.CreateSelect(b.CreateFCmpONE(back, value), b.CreateOr(towardsZero, b.getInt32(1)), bits);
  return b.CreateBitCast(odd, b.getFloatTy());
}

/// f32 to bf16, round half to even: the upper half of the word. NaNs become quiet ones.
static Value *roundToBFloat(IRBuilder<> &b, Value *value) {
  Value *bits = b.CreateBitCast(value, b.getInt32Ty());
  Value *odd = b.CreateAnd(b.CreateLShr(bits, 16), 1);
  Value *rounded = b.CreateAdd(bits, b.CreateAdd(odd, b.getInt32(0x7fff)));
  Value *quiet = b.CreateOr(bits, 0x400000);
  Value *chosen = b.CreateSelect(b.CreateFCmpUNO(value, value), quiet, rounded);
  Value *half = b.CreateTrunc(b.CreateLShr(chosen, 16), b.getInt16Ty());
  return b.CreateBitCast(half, b.getBFloatTy());
}

void lowbit::cuda::defineSmallFloatRoundings(Module &module) {
  IRBuilder<> b(module.getContext());
  auto define = [&](StringRef name, Type *from, Type *to) {
    auto *function = Function::Create(FunctionType::get(to, from, /*isVarArg=*/false),
                                      GlobalValue::WeakAnyLinkage, name, module);
    function->setVisibility(GlobalValue::HiddenVisibility);
    b.SetInsertPoint(BasicBlock::Create(module.getContext(), "", function));
    Value *value = function->getArg(0);
    if (from->isDoubleTy())
      value = roundToOdd(b, value);
    b.CreateRet(to->isHalfTy() ? b.CreateFPTrunc(value, to) : roundToBFloat(b, value));
  };
  define("__truncdfhf2", b.getDoubleTy(), b.getHalfTy());
  define("__truncsfbf2", b.getFloatTy(), b.getBFloatTy());
  define("__truncdfbf2", b.getDoubleTy(), b.getBFloatTy());
}
