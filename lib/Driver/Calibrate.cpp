//===- Calibrate.cpp - collects the statistics that a recipe needs ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "Coverage.h"
#include "FeedTensors.h"
#include "TemporaryBundle.h"
#include "lowbit-c/Calibration.h"
#include "lowbit/Recipe/Calibration.h"
#include "lowbit/Recipe/Recipe.h"
#include "lowbit/Runtime/Sha256.h"
#include "llvm/Support/FileSystem.h"

using namespace lowbit;

struct Calibrator::State {
  TemporaryBundle bundle;
  Recipe recipe;
  std::vector<ObserverInfo> infos;
  std::vector<std::string> names;
  Calibration collected;
  /// By id; in `collected`.
  std::vector<TensorObserver *> observers;
  std::vector<HalfRange> half; ///< By id; empty before markHalf().
  /// Of a resumed file: the samples that are still to be passed over, and what they must be.
  int64_t toSkip = 0;
  DataDigest skipped, resumed;
  std::optional<int64_t> strangeId; ///< An observer whose number of channels changed.
  bool failed = false;

  llvm::Error add(const std::string &path);
};

Calibrator::Calibrator() : state(std::make_unique<State>()) {}

Calibrator::~Calibrator() = default;

lowbit_bundle *Calibrator::bundle() const { return state->bundle.get(); }
const std::vector<std::string> &Calibrator::observers() const { return state->names; }
int64_t Calibrator::samples() const { return state->collected.samples; }
int64_t Calibrator::recipeSamples() const { return state->recipe.calibrationSamples.value_or(0); }

/// Compiles the observed model into `bundle`. The compiler's memory is given back when this is
/// done: calibration itself needs the model once.
static llvm::Error compileObserved(const std::string &model, const std::string &recipe,
                                   TemporaryBundle &bundle, std::vector<ObserverInfo> &observers,
                                   std::string &modelHash) {
  CompileOptions options;
  options.model = model;
  options.recipe = recipe;
  options.arch = "host"; // It runs here, and only here.
  Compilation compilation(options);
  for (auto step : {&Compilation::import, &Compilation::toFloat, &Compilation::toObserved,
                    &Compilation::toScheduled, &Compilation::toExecutable})
    if (llvm::Error error = (compilation.*step)())
      return error;
  if (llvm::Error error = bundle.write(compilation, "calibrate"))
    return error;
  if (auto hash = compilation.module()->getAttrOfType<StringAttr>("onnx.model_sha256"))
    modelHash = hash.str();
  observers = std::move(compilation.observers);
  return llvm::Error::success();
}

llvm::Expected<std::unique_ptr<Calibrator>>
Calibrator::create(const std::string &model, const std::string &recipe, int threads) {
  std::unique_ptr<Calibrator> result(new Calibrator());
  State &state = *result->state;
  RecipeError why;
  std::optional<Recipe> parsed = Recipe::load(recipe, why);
  if (!parsed)
    return driverError(why.exitCode, why.message);
  state.recipe = std::move(*parsed);
  state.collected.measured = state.recipe.printMeasured();
  state.collected.recipeSha256 = state.recipe.observerSha256();

  if (llvm::Error error =
          compileObserved(model, recipe, state.bundle, state.infos, state.collected.modelSha256))
    return std::move(error);
  if (llvm::Error error = state.bundle.open(threads))
    return std::move(error);

  for (const ObserverInfo &info : state.infos) {
    state.names.push_back(info.name);
    state.observers.push_back(
        &state.collected.observers.try_emplace(info.name, info.channelAxis).first->second);
  }
  lowbit_bundle_set_observer(
      state.bundle.get(),
      [](void *user, int64_t id, const float *data, int64_t rank, const int64_t *shape) {
        State &state = *static_cast<State *>(user);
        if (id >= 0 && id < (int64_t)state.observers.size() &&
            !state.observers[id]->observe(data, rank, shape))
          state.strangeId = id;
      },
      &state);
  return result;
}

//===----------------------------------------------------------------------===//
// Feeding
//===----------------------------------------------------------------------===//

/// `count` of the samples from `begin` on, of a feed of `samples`. An input whose first axis does
/// not count samples belongs to each of them as a whole.
static lowbit_tensor slice(lowbit_tensor tensor, int64_t samples, int64_t begin, int64_t count) {
  if (tensor.rank == 0 || tensor.shape[0] % samples != 0)
    return tensor;
  int64_t rows = tensor.shape[0] / samples;
  tensor.data = static_cast<char *>(tensor.data) +
                begin * rows * tensor.strides[0] * int64_t(lowbit_dtype_size(tensor.dtype));
  tensor.shape[0] = rows * count;
  return tensor;
}

static DataDigest digestOf(const std::vector<lowbit_tensor> &inputs, int64_t samples,
                           int64_t index) {
  Sha256 hash;
  for (const lowbit_tensor &input : inputs) {
    lowbit_tensor one = slice(input, samples, index, 1);
    int64_t head[] = {one.dtype, one.rank};
    hash.update(head, sizeof head);
    hash.update(one.shape, one.rank * sizeof(int64_t));
    visitPieces(one, [&](llvm::ArrayRef<char> piece) { hash.update(piece.data(), piece.size()); });
  }
  return *DataDigest::parse(hash.finish());
}

llvm::Error Calibrator::feed(const std::vector<lowbit_tensor> &inputs, int64_t count) {
  State &state = *this->state;
  if (!state.bundle.get())
    return driverError(5, "this calibration is finished");
  if (state.failed)
    return driverError(5, "this calibration has failed before");
  if (count < 1)
    return driverError(2, "a feed has at least one sample");
  int64_t skip = std::min(state.toSkip, count);
  for (int64_t i = 0; i < skip; ++i)
    state.skipped.merge(digestOf(inputs, count, i));
  state.toSkip -= skip;
  if (skip > 0 && state.toSkip == 0 && state.skipped != state.resumed)
    return driverError(2, "the first " + llvm::Twine(state.collected.samples) +
                              " samples are not those that the calibration to be resumed has seen");
  if (skip == count)
    return llvm::Error::success();

  std::vector<lowbit_tensor> rest;
  DataDigest digest;
  for (int64_t i = skip; i < count; ++i)
    digest.merge(digestOf(inputs, count, i));
  for (const lowbit_tensor &input : inputs)
    rest.push_back(slice(input, count, skip, count - skip));
  std::vector<lowbit_tensor> outputs(lowbit_bundle_num_outputs(state.bundle.get()));
  lowbit_status status = lowbit_bundle_run(state.bundle.get(), rest.data(), rest.size(),
                                           outputs.data(), outputs.size());
  for (lowbit_tensor &output : outputs)
    lowbit_tensor_release(&output);
  int64_t first = state.collected.samples, last = first + count - skip - 1;
  std::string which = "sample " + std::to_string(first) +
                      (last > first ? " to " + std::to_string(last) : std::string());
  state.failed = true;
  if (status != LOWBIT_OK)
    return driverError(status, which + ": " + lowbit_last_error());
  if (state.strangeId)
    return driverError(5, which + ": " + state.names[*state.strangeId] +
                              " has another number of channels than before");
  for (auto [name, observer] : llvm::zip(state.names, state.observers))
    if (observer->range.nanCount() || observer->range.infCount())
      return driverError(2, which + ": NaN or infinity reaches " + name +
                                "; look for it in the data, or for an overflow in the model");
  state.failed = false;
  state.collected.samples += count - skip;
  state.collected.data.merge(digest);
  return llvm::Error::success();
}

void Calibrator::markHalf() {
  state->half.clear();
  for (const TensorObserver *observer : state->observers)
    state->half.push_back({samples(), observer->range.min(), observer->range.max()});
}

//===----------------------------------------------------------------------===//
// Files
//===----------------------------------------------------------------------===//

llvm::Error Calibrator::State::add(const std::string &path) {
  std::string error;
  std::optional<Calibration> file = Calibration::read(path, error);
  if (!file)
    return driverError(2, error);
  if (!collected.merge(*file, error))
    return driverError(2, "calibration file '" + path + "' does not fit: " + error);
  return llvm::Error::success();
}

llvm::Error Calibrator::resume(const std::string &path) {
  if (samples() > 0)
    return driverError(5, "a calibration is resumed before anything is fed");
  if (llvm::Error error = state->add(path))
    return error;
  state->toSkip = samples();
  state->resumed = state->collected.data;
  return llvm::Error::success();
}

llvm::Error Calibrator::merge(const std::string &path) { return state->add(path); }

llvm::Error Calibrator::checkpoint(const std::string &path) const {
  if (state->failed)
    return driverError(5, "a calibration that has failed is not kept");
  std::string error;
  if (!state->collected.write(path, error))
    return driverError(4, error);
  return llvm::Error::success();
}

llvm::Error Calibrator::finish(const std::string &path, bool force) {
  if (state->names.empty())
    return driverError(2, "this recipe measures no activations, so there is nothing to calibrate");
  if (samples() == 0)
    return driverError(2, "no calibration data");
  if (state->toSkip > 0)
    return driverError(2, "the calibration to be resumed has seen " + llvm::Twine(samples()) +
                              " samples, " + llvm::Twine(state->toSkip) +
                              " more than the data hold");
  if (llvm::sys::fs::exists(path) && !force)
    return driverError(2, path + ": exists already; --force replaces it");
  // The model and its weights make room for what is written.
  state->bundle.close();
  return checkpoint(path);
}

//===----------------------------------------------------------------------===//
// Coverage
//===----------------------------------------------------------------------===//

static std::string print(llvm::json::Object report) {
  std::string text;
  llvm::raw_string_ostream(text) << llvm::json::Value(std::move(report));
  return text;
}

llvm::Expected<std::string> Calibrator::coverage() const {
  llvm::json::Array observers;
  for (size_t i = 0; i < state->infos.size(); ++i)
    observers.push_back(describeCoverage(state->infos[i], *state->observers[i],
                                         state->recipe.calibration,
                                         state->half.empty() ? nullptr : &state->half[i]));
  return print(llvm::json::Object{{"samples", samples()},
                                  {"data_sha256", state->collected.data.str()},
                                  {"method", lowbit::name(state->recipe.calibration.method)},
                                  {"observers", std::move(observers)}});
}

llvm::Expected<std::string> Calibrator::compare(const std::string &path) const {
  std::string error;
  std::optional<Calibration> file = Calibration::read(path, error);
  if (!file)
    return driverError(2, error);
  Calibration probe = *file;
  if (!probe.merge(state->collected, error))
    return driverError(2, "calibration file '" + path + "' does not fit: " + error);
  llvm::json::Array observers;
  for (size_t i = 0; i < state->infos.size(); ++i) {
    auto found = file->observers.find(state->names[i]);
    if (found == file->observers.end())
      return driverError(2, "calibration file '" + path + "' lacks '" + state->names[i] + "'");
    observers.push_back(compareCoverage(state->infos[i], found->second, *state->observers[i],
                                        state->recipe.calibration));
  }
  return print(llvm::json::Object{{"samples", samples()},
                                  {"calibration_samples", file->samples},
                                  {"data_sha256", state->collected.data.str()},
                                  {"same_data", file->data == state->collected.data},
                                  {"method", lowbit::name(state->recipe.calibration.method)},
                                  {"observers", std::move(observers)}});
}
