//===- LowbitToLinalg.cpp - the specification of the lowbit ops as a pass ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "lowbit/Conversion/Passes.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Transforms/DialectConversion.h"
#include "llvm/ADT/TypeSwitch.h"

namespace lowbit {
#define GEN_PASS_DEF_LOWBITTOLINALG
#include "lowbit/Conversion/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct LowbitToLinalg : public lowbit::impl::LowbitToLinalgBase<LowbitToLinalg> {
  using LowbitToLinalgBase::LowbitToLinalgBase;

  /// Replaces `op` by its decomposition. Results of another type than the decomposition's get a
  /// cast.
  LogicalResult lower(Operation *op) {
    OpBuilder b(op);
    SmallVector<Value> results(1);
    Value &result = results.front();
    LogicalResult done =
        llvm::TypeSwitch<Operation *, LogicalResult>(op)
            .Case([&](DynamicQuantizeOp op) { return lowerDynamicQuantize(op, b, results); })
            .Case([&](QuantizeOp op) { return lowerQuantize(op, b, result); })
            .Case([&](DequantizeOp op) { return lowerDequantize(op, b, result); })
            .Case([&](LinearOp op) { return lowerLinear(op, b, result); })
            .Case([&](ConvOp op) { return lowerConv(op, b, result); })
            .Case([&](GatherOp op) { return lowerGather(op, b, result); })
            .Default([](Operation *op) { return op->emitOpError("has no decomposition"); });
    if (failed(done))
      return failure();
    for (auto [old, value] : llvm::zip_equal(op->getResults(), results)) {
      Type expected = old.getType();
      auto stored = storageType(cast<RankedTensorType>(expected));
      if (value.getType() != stored)
        value = tensor::CastOp::create(b, op->getLoc(), stored, value);
      if (value.getType() != expected)
        value = UnrealizedConversionCastOp::create(b, op->getLoc(), expected, value).getResult(0);
      old.replaceAllUsesWith(value);
    }
    op->erase();
    return success();
  }

  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation()->walk([&](Operation *op) {
      if (isa<LowbitDialect>(op->getDialect()))
        ops.push_back(op);
    });
    int64_t observers = 0, exchanges = 0;
    for (Operation *op : ops) {
      if (auto exchange = dyn_cast<ExchangeOp>(op)) {
        OpBuilder b(op);
        auto call = rt::ExchangeOp::create(b, op->getLoc(), exchange.getType(),
                                           exchange.getInput(), exchanges++);
        exchange.getOutput().replaceAllUsesWith(call.getOutput());
        op->erase();
        ++numDecomposed;
        continue;
      }
      if (auto observe = dyn_cast<ObserveOp>(op)) {
        OpBuilder b(op);
        rt::ObserveOp::create(b, op->getLoc(), observe.getInput(), observers++);
        op->erase();
        ++numDecomposed;
        continue;
      }
      if (isa<LinearOp, ConvOp>(op))
        op->emitRemark("layer '") << op->getAttrOfType<StringAttr>("layer").getValue()
                                  << "' has no kernel: it becomes loops";
      if (failed(lower(op)))
        return signalPassFailure();
      ++numDecomposed;
    }
    SmallVector<UnrealizedConversionCastOp> casts;
    getOperation()->walk([&](UnrealizedConversionCastOp op) { casts.push_back(op); });
    reconcileUnrealizedCasts(casts);
    // Constants that now exist in storage form.
    SmallVector<Operation *> constants;
    getOperation()->walk([&](Operation *op) {
      if (isa<onnx::ONNXConstantOp, arith::ConstantOp>(op) && op->use_empty())
        constants.push_back(op);
    });
    for (Operation *op : constants)
      op->erase();
  }
};
} // namespace
