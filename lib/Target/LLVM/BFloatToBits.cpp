//===- BFloatToBits.cpp - bf16 becomes its bits ----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/LLVM/Passes.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/TypeUtilities.h"

namespace lowbit {
#define GEN_PASS_DEF_BFLOATTOBITS
#include "lowbit/Target/LLVM/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

static bool isBFloat(Type type) { return getElementTypeOrSelf(type).isBF16(); }

static Type toBits(Type type) {
  Type i16 = IntegerType::get(type.getContext(), 16);
  if (auto vector = dyn_cast<VectorType>(type))
    return vector.clone(i16);
  return i16;
}

/// The same bits as integers; null for what is no constant of floats.
static Attribute toBits(Attribute value) {
  if (auto number = dyn_cast<FloatAttr>(value))
    return IntegerAttr::get(toBits(number.getType()), number.getValue().bitcastToAPInt());
  if (auto numbers = dyn_cast<DenseElementsAttr>(value))
    return numbers.bitcast(IntegerType::get(value.getContext(), 16));
  return {};
}

/// Ops that carry values and do not compute with them.
static bool movesOnly(Operation *op) {
  return isa<LLVM::LoadOp, LLVM::StoreOp, LLVM::BitcastOp, LLVM::SelectOp, LLVM::GEPOp, LLVM::AllocaOp,
             LLVM::ConstantOp, LLVM::PoisonOp, LLVM::UndefOp, LLVM::ZeroOp, LLVM::BrOp, LLVM::CondBrOp,
             LLVM::SwitchOp, LLVM::FreezeOp, LLVM::ExtractElementOp, LLVM::InsertElementOp,
             LLVM::ShuffleVectorOp>(op);
}

namespace {
struct BFloatToBits : public lowbit::impl::BFloatToBitsBase<BFloatToBits> {
  void runOnOperation() override {
    for (auto function : getOperation().getOps<LLVM::LLVMFuncOp>())
      if (!function.isExternal() && isSafe(function))
        convert(function);
  }

  bool isSafe(LLVM::LLVMFuncOp function) {
    if (llvm::any_of(function.getArgumentTypes(), isBFloat) || isBFloat(function.getFunctionType().getReturnType()))
      return false;
    return !function
                .walk([](Operation *op) {
                  bool touches = llvm::any_of(op->getOperandTypes(), isBFloat) ||
                                 llvm::any_of(op->getResultTypes(), isBFloat);
                  return touches && !movesOnly(op) ? WalkResult::interrupt() : WalkResult::advance();
                })
                .wasInterrupted();
  }

  void convert(LLVM::LLVMFuncOp function) {
    for (Block &block : function.getBody())
      for (BlockArgument argument : block.getArguments())
        if (isBFloat(argument.getType()))
          argument.setType(toBits(argument.getType()));
    SmallVector<LLVM::BitcastOp> casts;
    function.walk([&](Operation *op) {
      for (Value result : op->getResults())
        if (isBFloat(result.getType())) {
          result.setType(toBits(result.getType()));
          ++numValues;
        }
      if (auto element = op->getAttrOfType<TypeAttr>("elem_type"); element && isBFloat(element.getValue()))
        op->setAttr("elem_type", TypeAttr::get(toBits(element.getValue())));
      if (auto constant = dyn_cast<LLVM::ConstantOp>(op))
        if (Attribute bits = toBits(constant.getValue()))
          if (isBFloatAttr(constant.getValue()))
            constant.setValueAttr(bits);
      if (auto cast = dyn_cast<LLVM::BitcastOp>(op))
        casts.push_back(cast);
    });
    for (LLVM::BitcastOp cast : casts)
      if (cast.getArg().getType() == cast.getType()) {
        cast.replaceAllUsesWith(cast.getArg());
        cast.erase();
      }
  }

  static bool isBFloatAttr(Attribute value) {
    auto typed = dyn_cast<TypedAttr>(value);
    return typed && isBFloat(typed.getType());
  }
};
} // namespace
