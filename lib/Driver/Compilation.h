//===- Compilation.h - one compilation: a module on its way through the forms ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_DRIVER_COMPILATION_H
#define LOWBIT_LIB_DRIVER_COMPILATION_H

#include "lowbit/Driver/Driver.h"
#include "lowbit/Recipe/Recipe.h"
#include "lowbit/Support/LLVM.h"
#include "lowbit/Target/Target.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/Support/JSON.h"

namespace lowbit {

llvm::Error driverError(int code, const llvm::Twine &message);

/// One input or output as the manifest has it.
struct PortInfo {
  std::string name, dtype;
  std::vector<int64_t> dims;
  std::vector<std::string> symbols;
};

/// As in manifest.json.
llvm::json::Array portsToJSON(const std::vector<PortInfo> &ports);

/// One lowbit.observe; its place in the list is the id that the model calls it by.
struct ObserverInfo {
  std::string name;
  int channelAxis = -1; ///< -1: the last one.
  /// How the recipe quantizes the value; nothing where it only weighs channels by it.
  std::optional<ActivationRule> activations;
};

/// Owns the context, collects diagnostics, and keeps what the manifest says about each form on the
/// way.
class Compilation {
public:
  explicit Compilation(const CompileOptions &options);

  llvm::Error import();
  llvm::Error toFloat();
  /// Of a model that is quantized already: its own decisions as lowbit ops. An error (3) where the
  /// recipe would decide about them again. The two that follow do this themselves.
  llvm::Error joinQDQ();
  llvm::Error toObserved();
  /// The float form as the recipe quantizes it: transformed, and with the statistics of the
  /// calibration file. toQDQ does this itself.
  llvm::Error toPrepared();
  /// From there to a program with exchange points.
  llvm::Error toOpened();
  llvm::Error toQDQ();
  llvm::Error toQuantized();
  llvm::Error toScheduled();
  llvm::Error toExecutable();

  /// Steps free constants over a KiB that the module no longer uses (folded batch norms, packed
  /// weights). For who keeps views of the constants as they are now: from here on none is freed.
  void keepConstants() { releases = false; }

  /// Fills `layers` from what the qdq or the quantized form says of each layer; toQuantized does so
  /// itself.
  llvm::Error checkTarget();
  void recordDecisions();
  /// Holds the caches of keys and values as the recipe says, which changes the ports; an error (3)
  /// where it says i8 and the model has none. toQDQ does so itself.
  llvm::Error holdCache();
  /// One entry per cache that is held in i8, as in manifest.json.
  llvm::json::Array heldCaches();

  ModuleOp module() { return *root; }
  std::string print();
  /// What the diagnostics since the last step said, as an error.
  llvm::Error takeError(int code, llvm::StringRef stage) { return failure(code, stage); }

  /// The first error since the last step, or `otherwise`.
  std::string firstError(const std::string &otherwise) {
    return errors.empty() ? otherwise : errors.front();
  }

  CompileOptions options;
  std::vector<PortInfo> inputs, outputs;
  std::vector<ObserverInfo> observers;
  std::vector<std::string> remarks;
  std::string recipeText, recipeName, recipeHash;
  std::vector<std::string> isa;
  std::string processor; ///< LLVM's name.
  /// Of a target that is a device: its code.
  DeviceProgram device;
  llvm::json::Array layers;
  /// Constants with their places in the weights file, in order.
  struct Weight {
    std::string name;
    int64_t offset;
    ElementsAttr value;
  };
  std::vector<Weight> weights;

private:
  llvm::Error run(int code, llvm::StringRef stage, llvm::function_ref<void(OpPassManager &)> build);
  llvm::Error failure(int code, llvm::StringRef stage);
  llvm::Error specializeDims();
  llvm::Error readPorts();
  void recordKernels();
  llvm::Error toDeviceExecutable(const Target &target);
  void takeWeights();

  /// Bytes of constants over a KiB in the context, used or not.
  size_t constantBytes();
  /// Erases constants that nothing uses, and frees those over a KiB that neither the module nor
  /// `weights` holds.
  void releaseUnusedConstants();

  bool releases = true;
  MLIRContext context;
  OwningOpRef<ModuleOp> root;
  ScopedDiagnosticHandler handler;
  std::vector<std::string> errors;
};

/// The module is in the LLVM dialect with placed weights: writes model.so, weights.safetensors,
/// recipe.yaml, report.json and manifest.json into the folder. Returns the report.
llvm::Expected<std::string> writeBundle(Compilation &compilation, const std::string &folder);

/// Object code or assembly of the module.
llvm::Expected<llvm::SmallVector<char, 0>> generateCode(Compilation &compilation, bool assembly);

} // namespace lowbit

#endif // LOWBIT_LIB_DRIVER_COMPILATION_H
