//===- InsertObservers.cpp - watches activations ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/LayerPlan.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Recipe/NeededStatistics.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace lowbit {
#define GEN_PASS_DEF_INSERTOBSERVERS
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct InsertObservers : public lowbit::impl::InsertObserversBase<InsertObservers> {
  using InsertObserversBase::InsertObserversBase;

  void runOnOperation() override {
    std::optional<LayerPlan> plan = planLayers(getOperation(), recipe);
    if (!plan)
      return signalPassFailure();
    for (const PlannedLayer &planned : plan->layers) {
      if (!planned.layer || planned.layer->kind == LayerKind::Gather ||
          !neededStatistics(plan->recipe, plan->ruleOf(planned)).any())
        continue;
      OpBuilder builder(planned.op);
      IntegerAttr channelAxis;
      if (planned.layer->kind == LayerKind::Conv)
        channelAxis = builder.getI64IntegerAttr(1);
      ObserveOp::create(builder, planned.op->getLoc(), planned.layer->input->get(),
                        builder.getStringAttr(planned.key.name + ":input"), StatsAttr(),
                        channelAxis);
      ++numObservers;
    }
  }
};
} // namespace
