//===- LowerDeviceMath.cpp - math in device code becomes instructions ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "DeviceMath.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/TypeSwitch.h"
#include <limits>

namespace lowbit {
#define GEN_PASS_DEF_LOWERDEVICEMATH
#include "lowbit/Target/CUDA/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;
using cuda::deviceIntrinsic;

StringRef cuda::deviceIntrinsic(Operation *op) {
  return llvm::TypeSwitch<Operation *, StringRef>(op)
      .Case([](arith::MaximumFOp) { return "maximum"; })
      .Case([](arith::MaxNumFOp) { return "maxnum"; })
      .Case([](arith::MinimumFOp) { return "minimum"; })
      .Case([](arith::MinNumFOp) { return "minnum"; })
      .Case([](math::AbsFOp) { return "fabs"; })
      .Case([](math::CeilOp) { return "ceil"; })
      .Case([](math::CopySignOp) { return "copysign"; })
      .Case([](math::FloorOp) { return "floor"; })
      .Case([](math::FmaOp) { return "fma"; })
      .Case([](math::RoundEvenOp) { return "roundeven"; })
      .Case([](math::SqrtOp) { return "sqrt"; })
      .Case([](math::TruncOp) { return "trunc"; })
      .Default(StringRef());
}

bool cuda::hasDeviceCode(Operation *op) {
  if (!isa<math::MathDialect>(op->getDialect()) || !deviceIntrinsic(op).empty() ||
      isa<math::IsNaNOp, math::IsInfOp, math::IsFiniteOp, math::RoundOp, math::RsqrtOp,
          math::ClampFOp>(op))
    return true;
  return llvm::none_of(op->getOperandTypes(),
                       [](Type type) { return getElementTypeOrSelf(type).isF64(); });
}

/// Ops that the upstream patterns leave to a library, in terms of ones that they do not.
static bool rewriteInTermsOfOthers(Operation *op) {
  if (op->getNumResults() != 1 || op->getNumOperands() == 0)
    return false;
  ImplicitLocOpBuilder b(op->getLoc(), op);
  Value x = op->getOperand(0), result;
  auto constant = [&](double value) -> Value {
    return arith::ConstantOp::create(b, b.getFloatAttr(x.getType(), value));
  };
  auto compare = [&](arith::CmpFPredicate predicate, Value a, Value c) {
    return arith::CmpFOp::create(b, predicate, a, c);
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (isa<VectorType>(x.getType()))
    return false;
  if (isa<math::Log10Op>(op)) {
    result = arith::MulFOp::create(b, math::LogOp::create(b, x), constant(0.43429448190325182765));
  } else if (isa<math::AbsIOp>(op)) {
    Value zero = arith::ConstantOp::create(b, b.getIntegerAttr(x.getType(), 0));
    result = arith::MaxSIOp::create(b, x, arith::SubIOp::create(b, zero, x));
  } else if (isa<math::IsNaNOp>(op)) {
    result = compare(arith::CmpFPredicate::UNO, x, x);
  } else if (isa<math::IsInfOp>(op)) {
    result = compare(arith::CmpFPredicate::OEQ, math::AbsFOp::create(b, x), constant(kInfinity));
  } else if (isa<math::IsFiniteOp>(op)) {
    result = compare(arith::CmpFPredicate::OLT, math::AbsFOp::create(b, x), constant(kInfinity));
  } else {
    return false;
  }
  op->replaceAllUsesWith(ValueRange{result});
  op->erase();
  return true;
}

namespace {
struct LowerDeviceMath : lowbit::impl::LowerDeviceMathBase<LowerDeviceMath> {
  void runOnOperation() override {
    getOperation().walk([&](Operation *op) {
      lowered += cuda::expandRemainder(op) || rewriteInTermsOfOthers(op);
    });
    // Polynomials are for f32; narrower floats pass through it. f64 functions stay, and emission
    // names them.
    RewritePatternSet patterns(&getContext());
    static const llvm::StringSet<> expanded = {
        "math.exp2",  "math.sinh", "math.cosh",  "math.tan",   "math.asinh", "math.acosh",
        "math.atanh", "math.powf", "math.fpowi", "math.round", "math.rsqrt", "math.clampf"};
    static const llvm::StringSet<> approximated = {
        "math.atan",  "math.atan2", "math.tanh", "math.log",  "math.log2",
        "math.log1p", "math.erf",   "math.erfc", "math.asin", "math.acos",
        "math.exp",   "math.expm1", "math.cbrt", "math.sin",  "math.cos"};
    SmallVector<StringRef> names;
    for (const auto &entry : expanded)
      names.push_back(entry.getKey().drop_front(5));
    math::populateExpansionPatterns(patterns, names);
    auto isApproximated = [](StringRef name) { return approximated.contains(name); };
    populateMathF32ExpansionPatterns(patterns, isApproximated);
    populateMathPolynomialApproximationPatterns(patterns, isApproximated);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      return signalPassFailure();
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (!deviceIntrinsic(op).empty() && isa<FloatType>(op->getResult(0).getType()))
        ops.push_back(op);
    });
    for (Operation *op : ops)
      callIntrinsic(op);
  }

  /// f16 and bf16 by way of f32, which holds what these functions give before it is rounded.
  void callIntrinsic(Operation *op) {
    ImplicitLocOpBuilder b(op->getLoc(), op);
    Type type = op->getResult(0).getType();
    bool widen = type.getIntOrFloatBitWidth() < 32;
    Type computed = widen ? b.getF32Type() : type;
    SmallVector<Value> operands(op->getOperands());
    if (widen)
      for (Value &operand : operands)
        operand = arith::ExtFOp::create(b, computed, operand);
    std::string name =
        ("llvm." + deviceIntrinsic(op) + (computed.isF32() ? ".f32" : ".f64")).str();
    Value result =
        LLVM::CallIntrinsicOp::create(b, computed, b.getStringAttr(name), operands).getResult(0);
    if (widen)
      result = arith::TruncFOp::create(b, type, result);
    op->replaceAllUsesWith(ValueRange{result});
    op->erase();
    ++lowered;
  }
};
} // namespace
