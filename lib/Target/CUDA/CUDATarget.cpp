//===- CUDATarget.cpp - NVIDIA GPUs as a target ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/CUDA/CUDATarget.h"
#include "BufferClasses.h"
#include "DeviceMath.h"
#include "lowbit/Target/CUDA/Emit.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "lowbit/Target/CUDA/Pipeline.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Target/Target.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include <set>

using namespace lowbit;
namespace json = llvm::json;

namespace {
class CUDATarget : public Target {
  StringRef name() const override { return "cuda"; }
  StringRef defaultArch() const override { return "sm_80,sm_86,sm_89,sm_90a"; }
  void buildSchedule(OpPassManager &manager) const override {
    manager.addPass(createScheduleCUDA());
  }
  std::string whyUnsupported(Operation *op) const override;
  llvm::Expected<DeviceProgram> buildDevice(ModuleOp module, StringRef arch,
                                            int &exitCode) const override;
  std::vector<StringRef> deviceForms() const override { return {"ptx", "cubin"}; }
  llvm::Expected<std::vector<DeviceCode>> emit(ModuleOp module, StringRef form, StringRef arch,
                                               int &exitCode) const override;
};
} // namespace

/// What no kernel does: 16-bit activations, groups beside integer activations and, in convolutions,
/// ranges that the run gives.
template <typename OpTy>
static std::string whyNoKernel(OpTy op) {
  bool isLinear = std::is_same_v<OpTy, LinearOp>;
  auto dynamic = op.getInput().template getDefiningOp<DynamicQuantizeOp>();
  if (dynamic && !(isLinear && op.sumsInFloat()))
    return "a range of activations that the run gives";
  if (getElementTypeOrSelf(op.getInput()).isInteger(16))
    return "16-bit activations";
  if (!op.sumsInFloat())
    return "";
  if (!isLinear)
    return "weights with zero points beside integer activations";
  auto weights = cast<ShapedType>(op.getWeight().getType());
  return op.getGroup() && int64_t(op.getGroup()) < weights.getShape().back()
             ? "weights in groups beside integer activations"
             : "";
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

/// The chips of `--arch`, oldest first, each once. An error sets the interface's exit code.
static llvm::Expected<std::vector<std::string>> readChips(StringRef arch, Location loc,
                                                          int &exitCode) {
  llvm::SmallVector<StringRef> names;
  arch.split(names, ',', -1, /*KeepEmpty=*/false);
  std::vector<std::string> chips(names.begin(), names.end());
  auto order = [](StringRef chip) {
    unsigned number = 0;
    chip.drop_front(std::min<size_t>(3, chip.size())).consumeInteger(10, number);
    return std::pair(number, chip);
  };
  llvm::sort(chips, [&](StringRef a, StringRef b) { return order(a) < order(b); });
  chips.erase(std::unique(chips.begin(), chips.end()), chips.end());
  exitCode = 3;
  if (chips.empty())
    return llvm::createStringError("--arch names no GPU");
  for (StringRef chip : chips)
    if (failed(cuda::verifyChip(chip, loc)))
      return llvm::createStringError("no kernels can be compiled for " + chip);
  return chips;
}

static llvm::Error missingTool() {
  return llvm::createStringError("ptxas is not available: set CUDA_HOME, put it on PATH, or "
                                 "install the nvidia-cuda-nvcc package "
                                 "into the Python environment (tools/setup.sh does)");
}

/// The nodes that compute functions in f64 for which there is no code; "" where there are none.
static std::string unsupportedMath(ModuleOp module) {
  std::set<std::string> nodes;
  module.walk([&](Operation *op) {
    if (!cuda::hasDeviceCode(op))
      nodes.insert((op->getName().stripDialect() + " in '" + cuda::layerOf(op) + "'").str());
  });
  return llvm::join(nodes, ", ");
}

static LogicalResult toKernels(ModuleOp module) {
  PassManager manager(module.getContext(), ModuleOp::getOperationName());
  cuda::buildToKernelsPipeline(manager);
  return manager.run(module);
}

llvm::Expected<DeviceProgram> CUDATarget::buildDevice(ModuleOp module, StringRef arch,
                                                      int &exitCode) const {
  auto chips = readChips(arch, module.getLoc(), exitCode);
  if (!chips)
    return chips.takeError();
  exitCode = 3;
  if (std::string nodes = unsupportedMath(module); !nodes.empty())
    return llvm::createStringError("target 'cuda' has these functions in f32 only, not in f64: " +
                                   nodes + "; cast to f32 before them, or compile for the CPU");
  exitCode = 6;
  if (cuda::findPtxas().empty())
    return missingTool();
  exitCode = 5;
  if (failed(toKernels(module)))
    return llvm::createStringError("the model could not be turned into kernels");
  FailureOr<cuda::KernelLibrary> library = cuda::buildLibrary(module, *chips);
  if (failed(library))
    return llvm::createStringError("the kernels could not be built");
  PassManager manager(module.getContext(), ModuleOp::getOperationName());
  manager.addPass(createLowerLaunches());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  if (failed(manager.run(module)))
    return llvm::createStringError("the launches could not be lowered");
  DeviceProgram program;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (auto reads = function->getAttrOfType<DenseI64ArrayAttr>(cuda::kHostReads))
      llvm::append_range(program.hostReads, reads.asArrayRef());
    program.synchronizes |= function->hasAttr(cuda::kSynchronizes);
    function->removeAttr(cuda::kHostReads);
    function->removeAttr(cuda::kSynchronizes);
  }
  json::Array kernels;
  for (const cuda::KernelCode &kernel : library->kernels) {
    json::Object entry = describe(kernel, chips->front());
    entry["parameters"] = kernel.parameters;
    kernels.push_back(std::move(entry));
  }
  program.kernels = llvm::formatv("{0}", json::Value(std::move(kernels)));
  program.files.push_back({"kernels.fatbin", std::move(library->fatbin)});
  program.files.push_back({"emulator.so", std::move(library->emulator)});
  return program;
}

llvm::Expected<std::vector<DeviceCode>> CUDATarget::emit(ModuleOp module, StringRef form,
                                                         StringRef arch, int &exitCode) const {
  auto chips = readChips(arch, module.getLoc(), exitCode);
  if (!chips)
    return chips.takeError();
  if (form == "cubin" && cuda::findPtxas().empty()) {
    exitCode = 6;
    return missingTool();
  }
  exitCode = 5;
  if (failed(toKernels(module)))
    return llvm::createStringError("the model could not be turned into kernels");
  std::vector<DeviceCode> files;
  json::Array kernels;
  for (StringRef chip : *chips) {
    cuda::BuildOptions options;
    options.chip = chip.str();
    options.assemble = form == "cubin";
    std::vector<cuda::KernelCode> built;
    if (failed(cuda::compileKernels(module, options, built)))
      return llvm::createStringError("the kernels could not be built for " + chip);
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
