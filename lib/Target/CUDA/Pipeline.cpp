//===- Pipeline.cpp - a quantized module to GPU kernels ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/CUDA/Pipeline.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Target/CUDA/Emit.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "lowbit/Target/LLVM/Pipeline.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/GPU/Transforms/Passes.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"

using namespace lowbit;
using namespace lowbit::cuda;

/// Threads of a block of the kernels that come from linalg.
static constexpr int64_t kLinalgBlock = 256;

void cuda::buildToKernelsPipeline(OpPassManager &manager) {
  buildBufferizePipeline(manager);
  manager.addNestedPass<func::FuncOp>(createPlaceBuffers());
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
  manager.addPass(createShareKernels());
}

std::string cuda::layerOf(Operation *op) {
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

/// One letter per parameter: `p` for an address, `n` for a number. A memref is spelled out as in
/// lowbit-lower-launches.
static std::string parametersOf(gpu::GPUFuncOp kernel) {
  std::string letters;
  for (Type type : kernel.getFunctionType().getInputs()) {
    if (auto buffer = dyn_cast<MemRefType>(type))
      letters += "pp" + std::string(1 + 2 * buffer.getRank(), 'n');
    else
      letters += isa<LLVM::LLVMPointerType>(type) ? 'p' : 'n';
  }
  return letters;
}

static KernelCode describe(gpu::GPUModuleOp module) {
  auto kernel = *module.getOps<gpu::GPUFuncOp>().begin();
  KernelCode code;
  code.name = kernel.getName().str();
  code.generator = "linalg";
  code.parameters = parametersOf(kernel);
  code.threads = code.rowsPerBlock = kLinalgBlock;
  if (auto shape = kernel->getAttrOfType<DenseI64ArrayAttr>("lowbit.launch"))
    code.threads = shape[0], code.rowsPerBlock = shape[1], code.blocksY = shape[2],
    code.sharedBytes = shape[3];
  return code;
}

std::vector<KernelCode> cuda::describeKernels(ModuleOp module) {
  std::vector<KernelCode> kernels;
  llvm::StringMap<size_t> byName;
  for (auto device : module.getOps<gpu::GPUModuleOp>()) {
    kernels.push_back(describe(device));
    byName[kernels.back().name] = kernels.size() - 1;
  }
  module.walk([&](Operation *op) {
    auto launch = dyn_cast<rt::LaunchOp>(op);
    auto outlined = dyn_cast<gpu::LaunchFuncOp>(op);
    if (!launch && !outlined)
      return;
    auto found = byName.find(launch ? launch.getKernel() : outlined.getKernelName().getValue());
    if (found == byName.end())
      return;
    KernelCode &code = kernels[found->second];
    code.layers.push_back(layerOf(op));
    if (launch)
      if (auto kernel = module.lookupSymbol<rt::KernelOp>(launch.getKernel()))
        code.generator = kernel.getGenerator().str();
  });
  return kernels;
}

LogicalResult cuda::compileKernels(ModuleOp module, const BuildOptions &options,
                                   std::vector<KernelCode> &kernels) {
  kernels.clear();
  if (failed(verifyChip(options.chip, module.getLoc())))
    return failure();
  llvm::LLVMContext context;
  std::vector<KernelCode> results = describeKernels(module);
  for (auto [device, code] : llvm::zip(module.getOps<gpu::GPUModuleOp>(), results)) {
    Location loc = device.getLoc();
    std::unique_ptr<llvm::Module> llvmModule = translateKernels(device, options.chip, context);
    if (!llvmModule)
      return failure();
    FailureOr<std::string> ptx = emitPTX(*llvmModule, options.chip, loc);
    if (failed(ptx))
      return failure();
    code.ptx = std::move(*ptx);
    if (options.assemble) {
      FailureOr<Cubin> cubin = assemble(code.ptx, options.chip, loc);
      if (failed(cubin))
        return failure();
      code.cubin = std::move(cubin->bytes);
      code.registers = cubin->registers;
      code.spillBytes = cubin->spillBytes;
    }
  }
  kernels = std::move(results);
  return success();
}

void cuda::registerPipelines() {
  PassPipelineRegistration<>("lowbit-to-cuda-kernels",
                             "scheduled form to GPU kernels and their launches on buffers",
                             [](OpPassManager &manager) { buildToKernelsPipeline(manager); });
}
