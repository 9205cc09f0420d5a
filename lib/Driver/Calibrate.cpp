//===- Calibrate.cpp - collects the statistics that a recipe needs ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "lowbit-c/Calibration.h"
#include "lowbit/Numerics/Observer.h"
#include "lowbit/Recipe/Calibration.h"
#include "lowbit/Recipe/Recipe.h"
#include "llvm/Support/FileSystem.h"

using namespace lowbit;

struct Calibrator::State {
  std::string folder;
  lowbit_bundle *bundle = nullptr;
  std::vector<std::string> names;
  std::vector<MinMaxObserver> observers;
  std::string modelHash, observerHash, method;
  int64_t feeds = 0;
};

Calibrator::Calibrator() : state(std::make_unique<State>()) {}

Calibrator::~Calibrator() {
  lowbit_bundle_close(state->bundle);
  if (!state->folder.empty())
    llvm::sys::fs::remove_directories(state->folder, true);
}

lowbit_bundle *Calibrator::bundle() const { return state->bundle; }
const std::vector<std::string> &Calibrator::observers() const { return state->names; }

llvm::Expected<std::unique_ptr<Calibrator>> Calibrator::create(const std::string &model,
                                                               const std::string &recipe) {
  std::unique_ptr<Calibrator> result(new Calibrator());
  State &state = *result->state;
  CompileOptions options;
  options.model = model;
  options.recipe = recipe;
  options.arch = "host"; // It runs here, and only here.
  Compilation compilation(options);
  for (auto step : {&Compilation::import, &Compilation::toFloat, &Compilation::toObserved,
                    &Compilation::toScheduled, &Compilation::toExecutable})
    if (llvm::Error error = (compilation.*step)())
      return std::move(error);
  llvm::SmallString<128> folder;
  if (std::error_code error = llvm::sys::fs::createUniqueDirectory("lowbit-calibrate", folder))
    return driverError(4, "cannot create a temporary folder: " + error.message());
  state.folder = folder.str().str();
  auto report = writeBundle(compilation, state.folder);
  if (!report)
    return report.takeError();
  lowbit_status status = lowbit_bundle_open(state.folder.c_str(), nullptr, &state.bundle);
  if (status != LOWBIT_OK)
    return driverError(status, lowbit_last_error());

  RecipeError why;
  std::optional<Recipe> parsed = Recipe::load(recipe, why);
  if (!parsed)
    return driverError(why.exitCode, why.message);
  state.method = parsed->calibrationMethod;
  state.observerHash = parsed->observerSha256();
  if (auto hash = compilation.module()->getAttrOfType<StringAttr>("onnx.model_sha256"))
    state.modelHash = hash.str();
  state.names = compilation.observers;
  state.observers.resize(state.names.size());
  lowbit_bundle_set_observer(
      state.bundle,
      [](void *user, int64_t id, const float *data, int64_t count) {
        auto &observers = static_cast<State *>(user)->observers;
        if (id >= 0 && id < (int64_t)observers.size())
          observers[id].observe(data, count);
      },
      &state);
  return result;
}

llvm::Error Calibrator::feed(const std::vector<lowbit_tensor> &inputs) {
  std::vector<lowbit_tensor> outputs(lowbit_bundle_num_outputs(state->bundle));
  lowbit_status status = lowbit_bundle_run(state->bundle, inputs.data(), inputs.size(),
                                           outputs.data(), outputs.size());
  for (lowbit_tensor &output : outputs)
    lowbit_tensor_release(&output);
  if (status != LOWBIT_OK)
    return driverError(status, "sample " + llvm::Twine(state->feeds) + ": " + lowbit_last_error());
  for (auto [name, observer] : llvm::zip(state->names, state->observers))
    if (observer.nanCount() || observer.infCount())
      return driverError(2, "sample " + llvm::Twine(state->feeds) + ": NaN or infinity reaches " +
                                name +
                                "; look for it in the data, or for an overflow in the model");
  ++state->feeds;
  return llvm::Error::success();
}

llvm::Error Calibrator::finish(const std::string &path, bool force) {
  if (state->names.empty())
    return driverError(2, "this recipe quantizes no activations, so there is nothing to calibrate");
  if (state->feeds == 0)
    return driverError(2, "no calibration data");
  if (llvm::sys::fs::exists(path) && !force)
    return driverError(2, path + ": exists already; --force replaces it");
  Calibration file;
  file.modelSha256 = state->modelHash;
  file.recipeSha256 = state->observerHash;
  file.method = state->method;
  file.samples = state->feeds;
  for (auto [name, observer] : llvm::zip(state->names, state->observers))
    file.ranges[name] = {observer.min(), observer.max(), observer.count()};
  std::string error;
  if (!file.write(path, error))
    return driverError(4, error);
  return llvm::Error::success();
}
