//===- InferShapes.cpp - gives every onnx value its shape -------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/ShapeAnalysis.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

namespace lowbit {
#define GEN_PASS_DEF_INFERSHAPES
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct InferShapes : public lowbit::impl::InferShapesBase<InferShapes> {
  using InferShapesBase::InferShapesBase;

  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (!function.isExternal() && failed(runOnFunction(function)))
        return signalPassFailure();
  }

  LogicalResult runOnFunction(func::FuncOp function) {
    ShapeAnalysis analysis;
    if (failed(analysis.run(function)))
      return failure();
    function.walk([&](Operation *op) {
      if (op->getName().getDialectNamespace() != "onnx")
        return;
      for (Region &region : op->getRegions())
        for (BlockArgument argument : region.getArguments())
          if (const SymbolicShape *shape = analysis.find(argument))
            argument.setType(shape->type());
      for (Value result : op->getResults())
        if (const SymbolicShape *shape = analysis.find(result)) {
          RankedTensorType type = shape->type();
          result.setType(type);
          ++(type.hasStaticShape() ? numStatic : numDynamic);
        }
    });
    // The results' types follow the values that are returned.
    Operation *terminator = function.getBody().front().getTerminator();
    function.setFunctionType(FunctionType::get(&getContext(),
                                               function.getFunctionType().getInputs(),
                                               terminator->getOperandTypes()));
    return success();
  }
};
} // namespace
