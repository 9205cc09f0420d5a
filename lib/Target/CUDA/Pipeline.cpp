//===- Pipeline.cpp - a quantized module to GPU kernels ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/CUDA/Pipeline.h"
#include "lowbit/Conversion/Passes.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Target/CUDA/Emit.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "lowbit/Target/LLVM/Pipeline.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/GPU/Transforms/Passes.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Transforms/Utils/Cloning.h"

using namespace lowbit;
using namespace lowbit::cuda;

/// Threads of a block of the kernels that come from linalg.
static constexpr int64_t kLinalgBlock = 256;

void cuda::buildToKernelsPipeline(OpPassManager &manager) {
  manager.addPass(createScheduleCUDA());
  manager.addPass(createLowbitToLinalg());
  manager.addPass(createConvertONNXToLinalg());
  manager.addPass(createReconcileUnrealizedCastsPass());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  // Transposes around kernels become index maps of the elementwise ops beside them.
  manager.addPass(createLinalgGeneralizeNamedOpsPass());
  manager.addPass(createFuseElementwise());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  buildBufferizePipeline(manager);
  LinalgToGPULoopsOptions loops;
  loops.blockSize = kLinalgBlock;
  manager.addNestedPass<func::FuncOp>(createLinalgToGPULoops(loops));
  // No canonicalization before the next pass: it would merge blocks and threads into one loop.
  manager.addNestedPass<func::FuncOp>(createConvertParallelLoopToGpuPass());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  // Constants and sizes are computed in the kernel rather than passed to it.
  manager.addPass(createGpuLaunchSinkIndexComputationsPass());
  manager.addPass(createGpuKernelOutliningPass());
  manager.addNestedPass<gpu::GPUModuleOp>(createLowerDeviceMath());
  manager.addPass(createGenerateCUDA());
}

namespace {
/// A gpu.module to compile, and what launches it.
struct Unit {
  gpu::GPUModuleOp module;
  KernelCode code;
};
} // namespace

/// The node that an op came from.
static std::string layerOf(Operation *op) {
  if (auto launch = dyn_cast<rt::LaunchOp>(op))
    return launch.getLayer().str();
  std::string name;
  op->getLoc()->walk([&](Location loc) {
    if (auto named = dyn_cast<NameLoc>(loc)) {
      name = named.getName().str();
      return WalkResult::interrupt();
    }
    return WalkResult::advance();
  });
  return name;
}

/// The body of a kernel as text, to find those that are the same.
static std::string bodyText(gpu::GPUFuncOp kernel) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  stream << kernel.getFunctionType();
  for (Operation &op : kernel.getBody().front())
    op.print(stream, OpPrintingFlags().useLocalScope().printGenericOpForm());
  return text;
}

/// One unit per distinct kernel, in the order of the first launch.
static std::vector<Unit> collect(ModuleOp module) {
  std::vector<Unit> units;
  llvm::StringMap<size_t> byKernel, byBody;
  auto unitOf = [&](StringRef moduleName, StringRef kernelName) -> Unit * {
    std::string key = (moduleName + "/" + kernelName).str();
    if (auto found = byKernel.find(key); found != byKernel.end())
      return &units[found->second];
    auto gpuModule = module.lookupSymbol<gpu::GPUModuleOp>(moduleName);
    auto kernel = gpuModule ? gpuModule.lookupSymbol<gpu::GPUFuncOp>(kernelName) : gpu::GPUFuncOp();
    if (!kernel)
      return nullptr;
    std::string body = bodyText(kernel);
    if (auto found = byBody.find(body); found != byBody.end()) {
      byKernel[key] = found->second;
      return &units[found->second];
    }
    byKernel[key] = byBody[body] = units.size();
    units.push_back({gpuModule, {}});
    // Outlined kernels of one function all have one name; their modules do not.
    if (kernelName != moduleName && (kernelName + "_device").str() != moduleName)
      kernel.setName(moduleName);
    units.back().code.name = kernel.getName().str();
    return &units.back();
  };
  module.walk([&](Operation *op) {
    if (auto launch = dyn_cast<rt::LaunchOp>(op)) {
      Unit *unit = unitOf((launch.getKernel() + "_device").str(), launch.getKernel());
      if (!unit)
        return;
      auto function = unit->module.lookupSymbol<gpu::GPUFuncOp>(unit->code.name);
      ArrayRef<int64_t> shape =
          function->getAttrOfType<DenseI64ArrayAttr>("lowbit.launch").asArrayRef();
      unit->code.threads = shape[0], unit->code.rowsPerBlock = shape[1],
      unit->code.blocksY = shape[2], unit->code.sharedBytes = shape[3];
      auto kernel = module.lookupSymbol<rt::KernelOp>(launch.getKernel());
      unit->code.generator = kernel ? kernel.getGenerator().str() : "";
      unit->code.layers.push_back(layerOf(op));
    } else if (auto launch = dyn_cast<gpu::LaunchFuncOp>(op)) {
      Unit *unit = unitOf(launch.getKernelModuleName(), launch.getKernelName());
      if (!unit)
        return;
      // The one of several equal kernels that is compiled.
      StringAttr outer = unit->module.getSymNameAttr();
      auto inner = FlatSymbolRefAttr::get(op->getContext(), unit->code.name);
      launch.setKernelAttr(SymbolRefAttr::get(outer, {inner}));
      unit->code.threads = unit->code.rowsPerBlock = kLinalgBlock;
      unit->code.generator = "linalg";
      unit->code.layers.push_back(layerOf(op));
    }
  });
  return units;
}

LogicalResult cuda::compileKernels(ModuleOp module, const BuildOptions &options,
                                   std::vector<KernelCode> &kernels) {
  kernels.clear();
  if (failed(verifyChip(options.chip, module.getLoc())))
    return failure();
  llvm::LLVMContext context;
  std::vector<std::unique_ptr<llvm::Module>> emulated;
  std::vector<KernelCode> results;
  for (Unit &unit : collect(module)) {
    Location loc = unit.module.getLoc();
    std::unique_ptr<llvm::Module> code = translateKernels(unit.module, options.chip, context);
    if (!code)
      return failure();
    std::unique_ptr<llvm::Module> copy =
        options.emulatorPath.empty() ? nullptr : llvm::CloneModule(*code);
    FailureOr<std::string> ptx = emitPTX(*code, options.chip, loc);
    if (failed(ptx))
      return failure();
    unit.code.ptx = std::move(*ptx);
    if (options.assemble) {
      FailureOr<Cubin> cubin = assemble(unit.code.ptx, options.chip, loc);
      if (failed(cubin))
        return failure();
      unit.code.cubin = std::move(cubin->bytes);
      unit.code.registers = cubin->registers;
      unit.code.spillBytes = cubin->spillBytes;
    }
    if (copy) {
      if (failed(rewriteForEmulator(*copy, loc)))
        return failure();
      emulated.push_back(std::move(copy));
    }
    results.push_back(std::move(unit.code));
  }
  if (!options.emulatorPath.empty()) {
    SmallVector<llvm::Module *> modules;
    for (auto &one : emulated)
      modules.push_back(one.get());
    if (failed(emitEmulatorObject(modules, options.emulatorPath, module.getLoc())))
      return failure();
  }
  kernels = std::move(results);
  return success();
}

LogicalResult cuda::buildKernels(ModuleOp module, const BuildOptions &options,
                                 std::vector<KernelCode> &kernels) {
  PassManager manager(module.getContext(), ModuleOp::getOperationName());
  buildToKernelsPipeline(manager);
  if (failed(manager.run(module)))
    return failure();
  return compileKernels(module, options, kernels);
}

void cuda::registerPipelines() {
  PassPipelineRegistration<>("lowbit-to-cuda-kernels",
                             "quantized form to GPU kernels and their launches on buffers",
                             [](OpPassManager &manager) { buildToKernelsPipeline(manager); });
}
