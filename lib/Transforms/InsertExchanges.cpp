//===- InsertExchanges.cpp - a program for quantization layer by layer ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "QuantizeLayer.h"
#include "lowbit/Analysis/LayerPlan.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include <map>

namespace lowbit {
#define GEN_PASS_DEF_INSERTEXCHANGES
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

/// Layers of equal keys multiply the same rows with their weights, and quantize them alike.
static std::string inputKey(const QuantizableLayer &layer, const Rule &rule) {
  std::string key;
  llvm::raw_string_ostream stream(key);
  stream << layer.input->get().getAsOpaquePointer() << ';' << int(layer.kind) << ';';
  if (rule.activations)
    stream << name(rule.activations->type) << rule.activations->symmetric
           << rule.activations->dynamic;
  if (layer.kind == LayerKind::Conv) {
    auto weight = cast<RankedTensorType>(layer.weight->get().getType());
    stream << ';' << layer.conv.groups;
    for (ArrayRef<int64_t> part :
         {ArrayRef<int64_t>(layer.conv.strides), ArrayRef<int64_t>(layer.conv.dilations),
          ArrayRef<int64_t>(layer.conv.pads), weight.getShape().drop_front(2)}) {
      stream << ';';
      llvm::interleave(part, stream, ",");
    }
  }
  return key;
}

namespace {
struct InsertExchanges : public lowbit::impl::InsertExchangesBase<InsertExchanges> {
  using InsertExchangesBase::InsertExchangesBase;

  void runOnOperation() override {
    std::optional<LayerPlan> plan = planLayers(getOperation(), recipe);
    if (!plan)
      return signalPassFailure();
    correctsBiases = plan->recipe.correctsBiases();
    ActivationQuantizer activations(getOperation(), plan->recipe.calibration);
    std::map<std::string, Value> inputs;
    for (const PlannedLayer &planned : plan->layers) {
      const Rule *rule = plan->ruleOf(planned);
      if (planned.layer && rule && rule->weights &&
          failed(open(planned, *rule, activations, inputs)))
        return signalPassFailure();
    }
    activations.eraseObservers();
  }

  LogicalResult open(const PlannedLayer &planned, const Rule &rule,
                     ActivationQuantizer &activations, std::map<std::string, Value> &inputs) {
    const QuantizableLayer &layer = *planned.layer;
    OpBuilder builder(planned.op);
    Location loc = planned.op->getLoc();
    StringAttr name = builder.getStringAttr(planned.key.name);
    auto exchange = [&](Type type, StringRef role, Value input) {
      return ExchangeOp::create(builder, loc, type, name, builder.getStringAttr(role), input);
    };
    if (layer.kind != LayerKind::Gather) {
      // The key is that of the value before the exchange.
      Value &input = inputs[inputKey(layer, rule)];
      if (!input) {
        auto point = exchange(layer.input->get().getType(), "input", layer.input->get());
        input = point;
        if (rule.activations && rule.activations->dynamic.empty()) {
          FailureOr<std::optional<QuantParams>> params =
              activations.params(planned, *rule.activations);
          if (failed(params))
            return failure();
          if (!*params)
            return planned.op->emitOpError("of layer '")
                   << planned.key.name
                   << "' has no statistics of its activations; calibrate the model";
          point->setAttr("scale", builder.getF32FloatAttr((*params)->scale));
          point->setAttr("zero", builder.getI64IntegerAttr((*params)->zero));
        }
      }
      layer.input->set(input);
    }
    Operation *constant = layer.weight->get().getDefiningOp();
    layer.weight->set(exchange(layer.weight->get().getType(), "weight", Value()));
    if (constant->use_empty())
      constant->erase();
    if (correctsBiases && layer.kind != LayerKind::Gather) {
      builder.setInsertionPointAfter(planned.op);
      Value result = planned.op->getResult(0);
      auto output = exchange(result.getType(), "output", result);
      result.replaceAllUsesExcept(output, output);
    }
    ++numLayers;
    return success();
  }

  bool correctsBiases = false;
};
} // namespace
