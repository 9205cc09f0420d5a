//===- Pipelines.h - one builder per form ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_PIPELINES_PIPELINES_H
#define LOWBIT_PIPELINES_PIPELINES_H

#include "lowbit/Recipe/RoundedLayers.h"
#include "lowbit/Support/LLVM.h"
#include "mlir/Pass/PassOptions.h"
#include <string>

namespace lowbit {

struct ToQDQOptions : public PassPipelineOptions<ToQDQOptions> {
  Option<std::string> recipe{*this, "recipe",
                             llvm::cl::desc("Recipe: a name, NAME:key=value,… or a file"),
                             llvm::cl::init("fp32")};
  Option<std::string> calibration{*this, "calibration", llvm::cl::desc("Calibration file"),
                                  llvm::cl::init("")};
};

struct ToScheduledOptions : public PassPipelineOptions<ToScheduledOptions> {
  Option<std::string> target{*this, "target", llvm::cl::desc("cpu"), llvm::cl::init("cpu")};
};

struct ToExecutableOptions : public PassPipelineOptions<ToExecutableOptions> {
  ListOption<std::string> isa{*this, "isa", llvm::cl::desc("Kernel variants, least first")};
};

/// onnx as imported → float form: shapes inferred, constants folded.
void buildToFloatPipeline(OpPassManager &manager);
/// float form → qdq form as far as the model itself is quantized; nothing happens to other models.
/// The first step of the two that follow.
void buildJoinQDQPipeline(OpPassManager &manager);
/// float form → float form with observers for what `recipe` wants calibrated.
void buildToObservedPipeline(OpPassManager &manager, StringRef recipe);
/// float form → what lowbit-apply-recipe takes: transformed as the recipe says, with statistics.
/// Without a calibration file, they are those that the IR's lowbit.observe ops hold.
void buildToPreparedPipeline(OpPassManager &manager, const ToQDQOptions &options);
/// float form → qdq form: prepared, and the recipe applied. `rounded` (see createApplyRecipe) is
/// read while the pipeline runs.
void buildToQDQPipeline(OpPassManager &manager, const ToQDQOptions &options,
                        const RoundedLayers *rounded = nullptr);
/// qdq form → qdq form with caches as `recipe` holds them: nothing happens where they are float. The
/// ports of the model change, so it comes after all that runs the model on data.
void buildCachePipeline(OpPassManager &manager, StringRef recipe);
/// qdq form → quantized form.
void buildToQuantizedPipeline(OpPassManager &manager);
/// quantized form → scheduled form for the CPU: kernel launches and linalg on tensors.
void buildToScheduledPipeline(OpPassManager &manager, const ToScheduledOptions &options);
/// Bufferized scheduled form (buildBufferizePipeline) → LLVM dialect with the model's entry points.
void buildToExecutablePipeline(OpPassManager &manager, const ToExecutableOptions &options);

/// The six above as lowbit-to-float, -observed, -qdq, -quantized, -scheduled, -executable.
void registerPipelines();

} // namespace lowbit

#endif // LOWBIT_PIPELINES_PIPELINES_H
