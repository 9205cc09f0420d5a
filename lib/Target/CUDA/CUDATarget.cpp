//===- CUDATarget.cpp - NVIDIA GPUs as a target ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/CUDA/CUDATarget.h"
#include "lowbit/Target/CUDA/Emit.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "lowbit/Target/CUDA/Pipeline.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Target/Target.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"

using namespace lowbit;
namespace json = llvm::json;

namespace {
class CUDATarget : public Target {
  StringRef name() const override { return "cuda"; }
  StringRef defaultArch() const override { return "sm_80,sm_90a"; }
  void buildSchedule(OpPassManager &manager) const override {
    manager.addPass(createScheduleCUDA());
  }
  std::string whyUnsupported(Operation *op) const override;
  std::vector<StringRef> deviceForms() const override { return {"ptx", "cubin"}; }
  llvm::Expected<std::vector<DeviceCode>> emit(ModuleOp module, StringRef form, StringRef arch,
                                               int &exitCode) const override;
};
} // namespace

/// Scales of the run and sums in float are the CPU's.
template <typename OpTy>
static std::string whyNoKernel(OpTy op) {
  if (op.getInput().template getDefiningOp<DynamicQuantizeOp>())
    return "a range of activations that the run gives";
  if (getElementTypeOrSelf(op.getInput()).isInteger(16))
    return "16-bit activations";
  if (op.sumsInFloat())
    return "weights in groups or with zero points beside integer activations";
  return "";
}

std::string CUDATarget::whyUnsupported(Operation *op) const {
  if (auto linear = dyn_cast<LinearOp>(op))
    return whyNoKernel(linear);
  if (auto conv = dyn_cast<ConvOp>(op))
    return whyNoKernel(conv);
  return "";
}

static json::Object describe(const cuda::KernelCode &kernel, StringRef chip) {
  json::Object entry{{"name", kernel.name},
                     {"arch", chip},
                     {"generator", kernel.generator},
                     {"layers", json::Array(kernel.layers)},
                     {"threads", kernel.threads},
                     {"shared_bytes", kernel.sharedBytes},
                     {"rows_per_block", kernel.rowsPerBlock},
                     {"blocks_y", kernel.blocksY}};
  if (kernel.registers >= 0) {
    entry["registers"] = kernel.registers;
    entry["spill_bytes"] = kernel.spillBytes;
  }
  return entry;
}

llvm::Expected<std::vector<DeviceCode>> CUDATarget::emit(ModuleOp module, StringRef form,
                                                         StringRef arch, int &exitCode) const {
  llvm::SmallVector<StringRef> chips;
  arch.split(chips, ',', -1, /*KeepEmpty=*/false);
  for (StringRef chip : chips)
    if (failed(cuda::verifyChip(chip, module.getLoc()))) {
      exitCode = 3;
      return llvm::createStringError("no kernels can be compiled for " + chip);
    }
  if (form == "cubin" && cuda::findPtxas().empty()) {
    exitCode = 6;
    return llvm::createStringError("ptxas is not available: set CUDA_HOME, put it on PATH, or "
                                   "install the nvidia-cuda-nvcc package "
                                   "into the Python environment (tools/setup.sh does)");
  }
  std::vector<DeviceCode> files;
  json::Array kernels;
  for (StringRef chip : chips) {
    OwningOpRef<ModuleOp> copy = module.clone();
    cuda::BuildOptions options;
    options.chip = chip.str();
    options.assemble = form == "cubin";
    std::vector<cuda::KernelCode> built;
    if (failed(cuda::buildKernels(*copy, options, built))) {
      exitCode = 5;
      return llvm::createStringError("the kernels could not be built for " + chip);
    }
    for (cuda::KernelCode &kernel : built) {
      kernels.push_back(describe(kernel, chip));
      files.push_back({(kernel.name + "." + chip + "." + form).str(),
                       form == "ptx" ? kernel.ptx : kernel.cubin});
    }
  }
  json::Object table{{"schema", "lowbit.kernels/1"}, {"kernels", std::move(kernels)}};
  files.push_back({"kernels.json", llvm::formatv("{0:2}\n", json::Value(std::move(table))).str()});
  return files;
}

void lowbit::registerCUDATarget() { registerTarget(std::make_unique<CUDATarget>()); }
