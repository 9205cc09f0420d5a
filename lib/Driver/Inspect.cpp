//===- Inspect.cpp - what a model holds, and what a recipe makes of it ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "lowbit/Analysis/CacheFlow.h"
#include "lowbit/Analysis/LayerPlan.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/Support/FormatVariadic.h"

using namespace lowbit;
namespace json = llvm::json;

static llvm::Error advanceToFloat(Compilation &compilation) {
  if (llvm::Error error = compilation.import())
    return error;
  return compilation.toFloat();
}

/// Of the weights; null where there are none.
static RankedTensorType weightType(const PlannedLayer &layer) {
  if (layer.dequantize)
    return dyn_cast<RankedTensorType>(layer.dequantize->getOperand(0).getType());
  if (!layer.layer || !layer.layer->weight)
    return {};
  return dyn_cast<RankedTensorType>(layer.layer->weight->get().getType());
}

static int64_t countWeights(const PlannedLayer &layer) {
  RankedTensorType type = weightType(layer);
  return type && type.hasStaticShape() ? type.getNumElements() : 0;
}

static json::Array weightShape(const PlannedLayer &layer) {
  json::Array shape;
  if (RankedTensorType type = weightType(layer))
    for (int64_t extent : type.getShape())
      shape.push_back(ShapedType::isDynamic(extent) ? -1 : extent);
  return shape;
}

/// The caches of keys and values that a recipe could hold in 8 bits.
static json::Array describeCaches(ModuleOp module) {
  json::Array caches;
  std::vector<std::string> nearMisses;
  auto entry = module.lookupSymbol<func::FuncOp>("main_graph");
  for (const CacheFlow &flow : findCaches(entry, nearMisses)) {
    json::Object cache{{"past", flow.pastName()}, {"present", flow.presentName()}};
    if (std::optional<CacheFlow::TokenBytes> bytes = flow.bytesPerToken()) {
      cache["bytes_per_token"] = bytes->real;
      cache["int8_bytes_per_token"] = bytes->integer;
    }
    caches.push_back(std::move(cache));
  }
  return caches;
}

llvm::Expected<std::string> lowbit::inspectModel(const std::string &model) {
  CompileOptions options;
  options.model = model;
  Compilation compilation(options);
  if (llvm::Error error = advanceToFloat(compilation))
    return std::move(error);
  std::map<std::string, int64_t> histogram;
  int64_t constants = 0;
  compilation.module().walk([&](Operation *op) {
    if (auto constant = dyn_cast<onnx::ONNXConstantOp>(op)) {
      auto type = cast<RankedTensorType>(constant.getType());
      constants +=
          type.getNumElements() * ((type.getElementType().getIntOrFloatBitWidth() + 7) / 8);
    } else if (op->getDialect() && isa<onnx::ONNXDialect>(op->getDialect()) &&
               !isa<onnx::ONNXNoValueOp, onnx::ONNXYieldOp>(op)) {
      ++histogram[op->getName().stripDialect().str()];
    }
  });
  if (llvm::Error error = compilation.joinQDQ())
    return std::move(error);
  json::Object operators;
  for (auto &[name, count] : histogram)
    operators[name] = count;
  json::Array layers;
  int64_t weights = 0;
  for (const PlannedLayer &layer : findLayers(compilation.module())) {
    int64_t count = countWeights(layer);
    if (!layer.dequantize)
      weights += count;
    layers.push_back(json::Object{{"name", layer.key.name},
                                  {"op", layer.key.op},
                                  {"weight", layer.key.weight},
                                  {"shape", weightShape(layer)},
                                  {"parameters", count},
                                  {"quantizable", layer.layer.has_value()},
                                  {"quantized", layer.dequantize != nullptr},
                                  {"reason", layer.whyNot}});
  }
  int64_t rest = constants - 4 * weights;
  json::Object result{
      {"schema", "lowbit.inspect/1"},
      {"inputs", portsToJSON(compilation.inputs)},
      {"outputs", portsToJSON(compilation.outputs)},
      {"operators", std::move(operators)},
      {"layers", std::move(layers)},
      {"kv_cache", describeCaches(compilation.module())},
      {"constant_bytes", constants},
      // Layers at that width plus everything else as it is; scales and zero points not counted.
      {"bytes", json::Object{{"fp32", constants},
                             {"fp16", rest + 2 * weights},
                             {"int8", rest + weights},
                             {"int4", rest + weights / 2}}}};
  return llvm::formatv("{0:2}\n", json::Value(std::move(result))).str();
}

llvm::Expected<std::string> lowbit::explainRecipe(const std::string &model,
                                                  const std::string &recipe) {
  CompileOptions options;
  options.model = model;
  options.recipe = recipe;
  Compilation compilation(options);
  if (llvm::Error error = advanceToFloat(compilation))
    return std::move(error);
  if (llvm::Error error = compilation.joinQDQ())
    return std::move(error);
  std::optional<LayerPlan> plan = planLayers(compilation.module(), recipe);
  if (!plan)
    return compilation.takeError(2, "explaining the recipe");
  json::Array layers;
  for (const PlannedLayer &layer : plan->layers) {
    const Rule *rule = plan->ruleOf(layer);
    json::Object entry{{"name", layer.key.name},
                       {"op", layer.key.op},
                       {"quantizable", layer.layer.has_value()},
                       {"reason", layer.whyNot},
                       {"rule", rule ? json::Value(rule->describeMatch()) : json::Value(nullptr)},
                       {"origin", rule ? json::Value(rule->origin) : json::Value(nullptr)}};
    entry["weights"] = rule && rule->weights ? json::Value(name(rule->weights->scheme.type))
                                             : json::Value("float");
    entry["activations"] = rule && rule->activations ? json::Value(name(rule->activations->type))
                                                     : json::Value("float");
    layers.push_back(std::move(entry));
  }
  json::Object result{
      {"schema", "lowbit.explain/1"}, {"recipe", plan->recipe.name}, {"layers", std::move(layers)}};
  if (llvm::Error error = compilation.holdCache())
    return std::move(error);
  json::Array caches = compilation.heldCaches();
  result["kv_cache"] = caches.empty() ? json::Value("float")
                                      : json::Value(json::Object{{"type", "i8"}, {"caches", std::move(caches)}});
  return llvm::formatv("{0:2}\n", json::Value(std::move(result))).str();
}
