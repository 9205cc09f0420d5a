//===- Target.h - what a target is to the rest of the compiler ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TARGET_TARGET_H
#define LOWBIT_TARGET_TARGET_H

#include "lowbit/Support/LLVM.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <memory>
#include <string>
#include <vector>

namespace lowbit {

/// One file of device code.
struct DeviceCode {
  std::string name; ///< As a file is called.
  std::string bytes;
};

/// What a bundle for a device holds beside host code and weights.
struct DeviceProgram {
  std::vector<DeviceCode> files;
  /// Numbers of the inputs whose values the host reads: launches depend on them.
  std::vector<int64_t> hostReads;
  /// The host waits for values that the device computes.
  bool synchronizes = false;
  /// JSON array: the kernels in the order of their numbers, as in manifest.json.
  std::string kernels;
};

/// A family of devices that code is generated for. Everything above a target speaks to it through
/// this class and the registry; adding one touches no shared file but the list in InitAll.
class Target {
public:
  virtual ~Target();

  /// As in `--target`.
  virtual StringRef name() const = 0;
  /// Where the user gives no `--arch`.
  virtual StringRef defaultArch() const = 0;
  /// Adds the passes that replace pivot ops by launches of this target's kernels (quantized form →
  /// scheduled form, tensors still).
  virtual void buildSchedule(OpPassManager &manager) const = 0;
  /// Adds the passes that do the same to the linalg ops that everything else has become. None by
  /// default.
  virtual void buildLinalgSchedule(OpPassManager &manager) const {}

  /// Why the target can run a layer of the quantized form neither by a kernel nor otherwise; empty
  /// where it can. Compiling a model that has such layers is an error that lists them.
  virtual std::string whyUnsupported(Operation *op) const { return {}; }

  /// Forms of device code that emit() gives, as in `--emit`.
  virtual std::vector<StringRef> deviceForms() const { return {}; }
  /// Turns a module in the scheduled form into host code on buffers that enqueues kernels, ready for
  /// buildHostToLLVMPipeline, and builds the kernels for each of the architectures in `arch`,
  /// separated by commas. Only where there are device forms.
  virtual llvm::Expected<DeviceProgram> buildDevice(ModuleOp module, StringRef arch,
                                                    int &exitCode) const;
  /// The module's kernels in `form` for each of the architectures in `arch`, separated by commas;
  /// the module is in the scheduled form and used up. One file is `kernels.json`: what each kernel
  /// is, which layers use it, and what the assembler said of it. On failure the error is one line
  /// and `exitCode` the interface's.
  virtual llvm::Expected<std::vector<DeviceCode>> emit(ModuleOp module, StringRef form,
                                                       StringRef arch, int &exitCode) const;
};

/// Adds a target; once per process and name, a second one of the same name is ignored.
void registerTarget(std::unique_ptr<Target> target);
/// Null for an unknown name.
const Target *findTarget(StringRef name);
/// All names, sorted, separated by ", ": for messages.
std::string targetNames();

} // namespace lowbit

#endif // LOWBIT_TARGET_TARGET_H
