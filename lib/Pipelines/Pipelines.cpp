//===- Pipelines.cpp - one builder per form ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Pipelines/Pipelines.h"
#include "lowbit/Conversion/Passes.h"
#include "lowbit/Recipe/Recipe.h"
#include "lowbit/Target/CPU/Arch.h"
#include "lowbit/Target/CPU/Passes.h"
#include "lowbit/Target/LLVM/Pipeline.h"
#include "lowbit/Target/Target.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace lowbit;

void lowbit::buildToFloatPipeline(OpPassManager &manager) {
  // Twice: a shape computed from constants is a constant only once they are folded.
  for (int round = 0; round < 2; ++round) {
    manager.addPass(createInferShapes());
    manager.addPass(createFoldConstants());
    manager.addPass(createCSEPass());
  }
  manager.addPass(createInferShapes());
}

void lowbit::buildJoinQDQPipeline(OpPassManager &manager) {
  manager.addPass(createConvertONNXToLowbit());
  manager.addPass(createFoldConstants());
}

/// The recipe; one that cannot be loaded has no transforms, and the pass that reads its
/// rules says why.
static Recipe loadTransforms(StringRef recipe) {
  RecipeError error;
  std::optional<Recipe> loaded = Recipe::load(recipe, error);
  return loaded ? std::move(*loaded) : Recipe();
}

/// What needs no data. Observed values are those of the graph that will be quantized.
static void addSurgeryBeforeData(OpPassManager &manager, const Recipe &recipe) {
  manager.addPass(createFoldBatchNorm());
  if (recipe.findTransform("equalize"))
    manager.addPass(createEqualize());
  if (recipe.findTransform("absorb-bias"))
    manager.addPass(createAbsorbBias());
}

/// What reads the observers' statistics.
static void addSurgeryOnData(OpPassManager &manager, const Recipe &recipe, StringRef name) {
  if (recipe.findTransform("smooth")) {
    SmoothOptions smooth;
    smooth.strength = recipe.smoothStrength();
    manager.addPass(createSmooth(smooth));
  }
  if (const GraphTransform *transform = recipe.findTransform("awq")) {
    AWQScaleOptions awq;
    awq.clip = transform->options.at("clip") == "true";
    awq.recipe = name.str();
    manager.addPass(createAWQScale(awq));
  }
}

void lowbit::buildToObservedPipeline(OpPassManager &manager, StringRef recipe) {
  buildJoinQDQPipeline(manager);
  addSurgeryBeforeData(manager, loadTransforms(recipe));
  InsertObserversOptions observers;
  observers.recipe = recipe.str();
  manager.addPass(createInsertObservers(observers));
}

void lowbit::buildToPreparedPipeline(OpPassManager &manager, const ToQDQOptions &options) {
  if (options.calibration.empty()) {
    buildJoinQDQPipeline(manager);
    addSurgeryBeforeData(manager, loadTransforms(options.recipe));
  } else {
    buildToObservedPipeline(manager, options.recipe);
    LoadCalibrationOptions load;
    load.file = options.calibration;
    load.recipe = options.recipe;
    manager.addPass(createLoadCalibration(load));
  }
  addSurgeryOnData(manager, loadTransforms(options.recipe), options.recipe);
}

void lowbit::buildToQDQPipeline(OpPassManager &manager, const ToQDQOptions &options,
                                const RoundedLayers *rounded) {
  buildToPreparedPipeline(manager, options);
  ApplyRecipeOptions apply;
  apply.recipe = options.recipe;
  manager.addPass(createApplyRecipe(apply, rounded));
  // Layers that read the same value now quantize it once.
  manager.addPass(createCSEPass());
}

void lowbit::buildCachePipeline(OpPassManager &manager, StringRef recipe) {
  if (!loadTransforms(recipe).cache)
    return;
  manager.addPass(createQuantizeKVCache());
  manager.addPass(createCSEPass());
}

void lowbit::buildToQuantizedPipeline(OpPassManager &manager) {
  manager.addPass(createFuseQDQ());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
}

void lowbit::buildToScheduledPipeline(OpPassManager &manager, const ToScheduledOptions &options) {
  // An unknown target schedules nothing; whoever takes the name from a user checks it with
  // findTarget.
  const Target *target = findTarget(options.target);
  if (target)
    target->buildSchedule(manager);
  manager.addPass(createLowbitToLinalg());
  manager.addPass(createConvertONNXToLinalg());
  manager.addPass(createReconcileUnrealizedCastsPass());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  manager.addPass(createSinkTransposes());
  manager.addPass(createCSEPass());
  if (target)
    target->buildLinalgSchedule(manager);
  // Transposes around kernels become index maps of the elementwise ops beside them.
  manager.addPass(createLinalgGeneralizeNamedOpsPass());
  manager.addPass(createFuseElementwise());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
}

void lowbit::buildToExecutablePipeline(OpPassManager &manager, const ToExecutableOptions &options) {
  GenerateCPUKernelsOptions kernels;
  kernels.isa.assign(options.isa.begin(), options.isa.end());
  if (kernels.isa.empty())
    if (std::optional<cpu::Arch> host = cpu::findArch("host"))
      for (const std::string &variant : host->variants)
        kernels.isa.push_back(variant);
  manager.addPass(createGenerateCPUKernels(kernels));
  buildHostToLLVMPipeline(manager);
}

void lowbit::registerPipelines() {
  PassPipelineRegistration<>("lowbit-to-float", "onnx as imported to the float form",
                             [](OpPassManager &manager) { buildToFloatPipeline(manager); });
  PassPipelineRegistration<ToQDQOptions>("lowbit-to-observed", "float form to observed form",
                                         [](OpPassManager &manager, const ToQDQOptions &options) {
                                           buildToObservedPipeline(manager, options.recipe);
                                         });
  PassPipelineRegistration<ToQDQOptions>("lowbit-to-qdq", "float form to qdq form",
                                         [](OpPassManager &manager, const ToQDQOptions &options) {
                                           buildToQDQPipeline(manager, options);
                                           buildCachePipeline(manager, options.recipe);
                                         });
  PassPipelineRegistration<>("lowbit-to-quantized", "qdq form to quantized form",
                             [](OpPassManager &manager) { buildToQuantizedPipeline(manager); });
  PassPipelineRegistration<ToScheduledOptions>(
      "lowbit-to-scheduled", "quantized form to scheduled form", buildToScheduledPipeline);
  PassPipelineRegistration<ToExecutableOptions>(
      "lowbit-to-executable", "scheduled form to LLVM dialect",
      [](OpPassManager &manager, const ToExecutableOptions &options) {
        buildBufferizePipeline(manager);
        buildToExecutablePipeline(manager, options);
      });
}
