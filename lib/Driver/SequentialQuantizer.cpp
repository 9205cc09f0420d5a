//===- SequentialQuantizer.cpp - weights rounded while the model runs on data ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The float model is compiled once, with exchange points at each layer. All samples run
// through it in lock step: they wait in front of a layer until the last one is there; the
// layer's weights are rounded on what reached it; then all go on with the rounded weights.
// One pass over the data quantizes the whole model, and each layer is rounded on inputs
// that have gone through the quantized layers before it. What is kept of a layer's input
// is its second moments, for as long as that layer takes.
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "FeedTensors.h"
#include "LayerRounder.h"
#include "LockStep.h"
#include "TemporaryBundle.h"
#include "lowbit-c/Calibration.h"
#include "lowbit/Recipe/Recipe.h"
#include "lowbit/Runtime/Sha256.h"
#include <malloc.h>

using namespace lowbit;

struct SequentialQuantizer::State {
  explicit State(const CompileOptions &options) : trial(std::make_unique<Compilation>(options)) {}

  std::unique_ptr<Compilation> trial;
  std::unique_ptr<LayerRounder> rounder;
  TemporaryBundle bundle;
  /// Runs of the float model go beside those of the quantized one.
  bool withFloat = false;
  int64_t recipeSamples = 0;
  std::vector<std::vector<OwnedTensor>> samples;
  std::string hashes; ///< Of the samples' bytes, one after the other.

  LockStep steps;
  std::vector<size_t> position; ///< Of each run: how many points it has passed.
  std::string error;
  llvm::function_ref<void(double)> progress = nullptr;
  std::vector<double> sizes;  ///< Of each sample: its dynamic dims together.
  double done = 0, total = 0; ///< Of the cost of all points.
  double reported = 0;        ///< The fraction that progress last got.

  size_t runs() const { return samples.size() * (withFloat ? 2 : 1); }
  bool isFloat(size_t run) const { return withFloat && run % 2 == 0; }
  size_t sampleOf(size_t run) const { return withFloat ? run / 2 : run; }
  /// Gives back everything but the number of samples.
  void release();
  int exchange(size_t run, int64_t id, float *data, int64_t rank, const int64_t *dims);
  bool start(size_t run);
  double sizeOf(const std::vector<OwnedTensor> &sample) const;
  /// Adds up what is to be done.
  void planProgress();
  void advance(double cost);
};

/// The run that this thread belongs to.
static thread_local size_t currentRun = 0;

SequentialQuantizer::SequentialQuantizer() = default;

SequentialQuantizer::~SequentialQuantizer() = default;

void SequentialQuantizer::State::release() {
  bundle.close();
  samples = {};
  rounder.reset(); // It reads the compilation's constants.
  trial.reset();
  malloc_trim(0); // What is free the heap would keep.
}

lowbit_bundle *SequentialQuantizer::bundle() const { return state->bundle.get(); }
int64_t SequentialQuantizer::recipeSamples() const { return state->recipeSamples; }
int64_t SequentialQuantizer::samples() const {
  return outcome ? outcome->samples : int64_t(state->samples.size());
}

llvm::Expected<bool> SequentialQuantizer::isNeeded(const std::string &recipe) {
  RecipeError why;
  std::optional<Recipe> loaded = Recipe::load(recipe, why);
  if (!loaded)
    return driverError(why.exitCode, why.message);
  return loaded->isSequential();
}

llvm::Expected<std::unique_ptr<SequentialQuantizer>>
SequentialQuantizer::create(const CompileOptions &given) {
  CompileOptions options = given;
  options.target = "cpu";
  options.arch = "host"; // It runs here, and only here.
  std::unique_ptr<SequentialQuantizer> result(new SequentialQuantizer());
  result->state = std::make_unique<State>(options);
  State &state = *result->state;
  Compilation &trial = *state.trial;
  for (auto step : {&Compilation::import, &Compilation::toFloat, &Compilation::toPrepared})
    if (llvm::Error error = (trial.*step)())
      return std::move(error);
  std::optional<LayerPlan> plan = planLayers(trial.module(), options.recipe);
  if (!plan)
    return trial.takeError(2, "planning layers");
  state.withFloat = plan->recipe.comparesWithFloat();
  state.recipeSamples = plan->recipe.calibrationSamples.value_or(0);
  state.rounder = std::make_unique<LayerRounder>(*plan);
  trial.keepConstants(); // The rounder reads them.
  if (llvm::Error error = trial.toOpened())
    return std::move(error);
  if (failed(state.rounder->readPoints(trial.module())))
    return trial.takeError(5, "reading exchange points");
  for (auto step : {&Compilation::toScheduled, &Compilation::toExecutable})
    if (llvm::Error error = (trial.*step)())
      return std::move(error);
  if (llvm::Error error = state.bundle.write(trial, "quantize"))
    return std::move(error);
  if (llvm::Error error = state.bundle.open())
    return std::move(error);
  lowbit_bundle_set_exchange(
      state.bundle.get(),
      [](void *user, int64_t id, float *data, int64_t rank, const int64_t *dims) {
        return static_cast<State *>(user)->exchange(currentRun, id, data, rank, dims);
      },
      &state);
  return result;
}

llvm::Error SequentialQuantizer::add(const std::vector<lowbit_tensor> &inputs) {
  std::vector<OwnedTensor> sample;
  for (const lowbit_tensor &input : inputs)
    sample.push_back(copyTensor(input));
  for (OwnedTensor &tensor : sample)
    state->hashes += sha256(tensor.bytes.data(), tensor.bytes.size());
  state->samples.push_back(std::move(sample));
  return llvm::Error::success();
}

bool SequentialQuantizer::State::start(size_t run) {
  currentRun = run;
  std::vector<lowbit_tensor> inputs, outputs(lowbit_bundle_num_outputs(bundle.get()));
  for (OwnedTensor &tensor : samples[sampleOf(run)]) {
    tensor.view.data = tensor.bytes.data();
    inputs.push_back(tensor.view);
  }
  lowbit_status status = lowbit_bundle_run(bundle.get(), inputs.data(), inputs.size(),
                                           outputs.data(), outputs.size());
  for (lowbit_tensor &output : outputs)
    lowbit_tensor_release(&output);
  if (status != LOWBIT_OK && error.empty())
    error = "sample " + std::to_string(sampleOf(run)) + ": " + lowbit_last_error();
  return status == LOWBIT_OK;
}

int SequentialQuantizer::State::exchange(size_t run, int64_t id, float *data, int64_t rank,
                                         const int64_t *dims) {
  const std::vector<ExchangePoint> &points = rounder->points();
  size_t at = position[run]++;
  // Runs take every point, in the order of the program.
  if (at >= points.size() || int64_t(at) != id) {
    error = "the opened model left the order of its exchange points";
    return 1;
  }
  const ExchangePoint &point = points[at];
  ExchangedTensor tensor{data, ArrayRef<int64_t>(dims, size_t(rank))};
  bool floatRun = isFloat(run), last = run + 1 == runs();
  size_t sample = sampleOf(run);
  auto finish = [&](llvm::function_ref<bool()> complete) {
    return rounder->isBarrier(point) && !steps.wait(run, [&] { return complete(); });
  };
  switch (point.role) {
  case ExchangePoint::Role::Input:
    // One in eight samples only checks what the others decide.
    if (floatRun)
      rounder->observeFloatInput(point, tensor);
    else
      rounder->observeInput(point, tensor, samples.size() >= 8 && sample % 8 == 7);
    if (finish([&] {
          bool finished = rounder->finishInput(point, error);
          advance(rounder->finishCost(point));
          return finished;
        }))
      return 1;
    break;
  case ExchangePoint::Role::Weight:
    if (!rounder->supplyWeights(point, tensor, floatRun, error))
      return 1;
    if (last)
      rounder->dropWeights(point);
    break;
  case ExchangePoint::Role::Output:
    rounder->observeOutput(point, tensor, floatRun);
    if (finish([&] {
          rounder->finishOutput(point);
          return true;
        }))
      return 1;
    if (!floatRun)
      rounder->shiftOutput(point, tensor);
    break;
  }
  advance(rounder->runCost(point, sizes[sample], floatRun));
  return 0;
}

double SequentialQuantizer::State::sizeOf(const std::vector<OwnedTensor> &sample) const {
  for (size_t i = 0; i < sample.size(); ++i) {
    const lowbit_value_info *input = lowbit_bundle_input(bundle.get(), i);
    double size = 1;
    bool dynamic = false;
    for (int32_t d = 0; d < input->rank; ++d)
      if (input->dims[d] < 0) {
        size *= double(sample[i].view.shape[d]);
        dynamic = true;
      }
    if (dynamic)
      return size;
  }
  return 1;
}

void SequentialQuantizer::State::planProgress() {
  for (const std::vector<OwnedTensor> &sample : samples)
    sizes.push_back(sizeOf(sample));
  for (const ExchangePoint &point : rounder->points()) {
    total += rounder->finishCost(point);
    for (size_t run = 0; run < runs(); ++run)
      total += rounder->runCost(point, sizes[sampleOf(run)], isFloat(run));
  }
}

void SequentialQuantizer::State::advance(double cost) {
  done += cost;
  double fraction = total > 0 ? std::min(done / total, 1.0) : 1;
  if (!progress || (fraction < 1 && fraction < reported + 1e-3))
    return;
  reported = fraction;
  progress(fraction);
}

llvm::Error SequentialQuantizer::run(llvm::function_ref<void(double)> progress) {
  if (outcome)
    return llvm::Error::success();
  if (state->samples.empty())
    return driverError(2, "no calibration data");
  // Buffers of many threads would stay in the heaps of those threads: large ones come from the
  // system, and go back to it.
  mallopt(M_MMAP_THRESHOLD, 1 << 18);
  state->progress = progress;
  state->position.assign(state->runs(), 0);
  state->planProgress();
  bool done = state->steps.run(state->runs(), [&](size_t run) { return state->start(run); });
  if (!done)
    return driverError(2, state->error);
  auto result = std::make_shared<SequentialResult>();
  result->layers = state->rounder->takeResult();
  result->dataSha256 = sha256(state->hashes.data(), state->hashes.size());
  result->samples = state->samples.size();
  outcome = std::move(result);
  // The compilation that follows needs the memory.
  state->release();
  return llvm::Error::success();
}
