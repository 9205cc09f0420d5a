//===- Driver.h - compile, calibrate, inspect: what the tools call ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_DRIVER_DRIVER_H
#define LOWBIT_DRIVER_DRIVER_H

#include "lowbit-c/Runtime.h"
#include "lowbit/Recipe/RoundedLayers.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/Support/Error.h"
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace lowbit {

/// A failure with the exit code of the interface: 2 usage or input, 3 unsupported, 4 memory or
/// disk, 5 internal, 6 a tool is missing.
class DriverError : public llvm::ErrorInfo<DriverError> {
public:
  static char ID;
  DriverError(int code, std::string message) : code(code), message(std::move(message)) {}
  void log(llvm::raw_ostream &stream) const override;
  std::error_code convertToErrorCode() const override { return llvm::inconvertibleErrorCode(); }

  int code;
  std::string message;
};

/// What quantization on data decided about each layer, and on which data.
struct SequentialResult {
  RoundedLayers layers;
  std::string dataSha256;
  int64_t samples = 0;
};

struct CompileOptions {
  std::string model;           ///< Path of an .onnx file, or of a .mlir file in the quantized form.
  std::string recipe = "fp32"; ///< A name, NAME:key=value,… or a file.
  /// Of SequentialQuantizer, for a recipe that needs it.
  std::shared_ptr<const SequentialResult> rounded;
  std::string calibration;     ///< Calibration file; empty where the recipe needs none.
  std::string target = "cpu";  ///< As registered: cpu, cuda.
  std::string arch;            ///< Empty: the target's default.
  std::map<std::string, int64_t> dims; ///< Sizes for dynamic dimensions, by symbol.
  bool force = false;                  ///< Replace what is at the output path.
};

/// Writes the bundle folder `output`, whole or not at all, and returns report.json's text.
llvm::Expected<std::string> compileBundle(const CompileOptions &options, const std::string &output);

/// The module at one of the forms: onnx, float, qdq, quantized, scheduled, llvm (MLIR text) or asm
/// (assembly); targets add forms of their own (emitDeviceCode), of which this gives all text files
/// one after the other.
llvm::Expected<std::string> emitForm(const CompileOptions &options, const std::string &form);

/// Device code, in one of the forms that the target adds: files with their bytes. One of them is
/// kernels.json.
llvm::Expected<std::vector<std::pair<std::string, std::string>>>
emitDeviceCode(const CompileOptions &options, const std::string &form);

struct ExportRequest {
  std::string runtime = "onnxruntime"; ///< Or tensorrt, openvino.
  /// Tensors of a KiB and more go to OUTPUT.data; above a GiB of them they do so anyway.
  bool externalData = false;
};

/// Writes the quantized model as ONNX for another runtime (QuantizeLinear and DequantizeLinear
/// around float operators), whole or not at all; returns a report, JSON text. `target` and `arch`
/// of the options do not matter.
llvm::Expected<std::string> exportModel(const CompileOptions &options, const ExportRequest &request,
                                        const std::string &output);

/// Inputs, outputs, operators, layers with sizes, and which can be quantized: JSON text.
llvm::Expected<std::string> inspectModel(const std::string &model);

/// Which rule of a recipe takes which layer: JSON text.
llvm::Expected<std::string> explainRecipe(const std::string &model, const std::string &recipe);

/// Collects the statistics that a recipe needs by running the observed float model. Memory does not
/// depend on the number of samples; what is collected not on batches or order (TensorObserver).
class Calibrator {
public:
  /// `threads`: how many run the model; 0 is all cores.
  static llvm::Expected<std::unique_ptr<Calibrator>>
  create(const std::string &model, const std::string &recipe, int threads = 0);
  ~Calibrator();

  /// The observed model; its inputs are what feed() takes.
  lowbit_bundle *bundle() const;
  /// Names of what is observed; empty where the recipe needs no calibration.
  const std::vector<std::string> &observers() const;
  /// How many samples the recipe asks for; 0 where it takes all.
  int64_t recipeSamples() const;
  /// The samples that were fed, with those that a resumed file had seen.
  int64_t samples() const;

  /// Runs one feed of `count` samples, in the order of the model's inputs. NaN or infinity in an
  /// observed value is an error, after which nothing more can be done with this calibrator.
  llvm::Error feed(const std::vector<lowbit_tensor> &inputs, int64_t count = 1);
  /// Goes on from what a calibration file or checkpoint holds: the first feeds must be the samples
  /// that it has seen, and are not run again. To be called before any feed.
  llvm::Error resume(const std::string &path);
  /// Adds what a calibration file of the same model and recipe holds.
  llvm::Error merge(const std::string &path);
  /// Remembers the ranges as they are now; coverage() tells how much they widened since.
  void markHalf();

  /// Writes what was collected so far, to go on from it; an error where a feed has failed.
  llvm::Error checkpoint(const std::string &path) const;
  /// Writes the calibration file; an error where nothing was fed or the file exists. Closes the
  /// bundle: nothing can be fed afterwards.
  llvm::Error finish(const std::string &path, bool force);

  /// How well the data cover each range: JSON text, see docs/formats.md.
  llvm::Expected<std::string> coverage() const;
  /// How much of what was fed lies outside of what a calibration file covers: JSON text, likewise.
  llvm::Expected<std::string> compare(const std::string &calibration) const;

private:
  Calibrator();
  struct State;
  std::unique_ptr<State> state;
};

/// Rounds the weights of a model layer by layer, on data that has gone through the quantized layers
/// before: what GPTQ, AWQ and empirical bias correction need.
class SequentialQuantizer {
public:
  /// Whether the recipe asks for any of it.
  static llvm::Expected<bool> isNeeded(const std::string &recipe);
  /// `options` as for compileBundle, with the calibration file if the recipe needs one.
  static llvm::Expected<std::unique_ptr<SequentialQuantizer>> create(const CompileOptions &options);
  ~SequentialQuantizer();

  /// The model with its exchange points; its inputs are what add() takes.
  lowbit_bundle *bundle() const;
  /// How many samples the recipe asks for; 0 where it takes all.
  int64_t recipeSamples() const;
  /// Keeps a copy of one sample, in the order of the model's inputs.
  llvm::Error add(const std::vector<lowbit_tensor> &inputs);
  int64_t samples() const;
  /// Rounds all layers. `progress` gets the done part of the work, in [0, 1].
  llvm::Error run(llvm::function_ref<void(double)> progress);
  /// After run().
  std::shared_ptr<const SequentialResult> result() const { return outcome; }

private:
  SequentialQuantizer();
  struct State;
  std::unique_ptr<State> state;
  std::shared_ptr<const SequentialResult> outcome;
};

} // namespace lowbit

#endif // LOWBIT_DRIVER_DRIVER_H
