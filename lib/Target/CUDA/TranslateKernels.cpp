//===- TranslateKernels.cpp - gpu.module to optimized device LLVM IR ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "DeviceMachine.h"
#include "lowbit/Target/CUDA/Emit.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/GPUToNVVM/GPUToNVVMPass.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/NVVMToLLVM/NVVMToLLVM.h"
#include "mlir/Conversion/Passes.h"
#include "mlir/Conversion/UBToLLVM/UBToLLVM.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/GPU/GPUToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"

using namespace lowbit;

void cuda::registerEmission(DialectRegistry &registry) {
  registry.insert<gpu::GPUDialect, LLVM::LLVMDialect, NVVM::NVVMDialect, scf::SCFDialect,
                  vector::VectorDialect>();
  // convert-gpu-to-nvvm asks each dialect how it becomes LLVM.
  arith::registerConvertArithToLLVMInterface(registry);
  cf::registerConvertControlFlowToLLVMInterface(registry);
  registerConvertMathToLLVMInterface(registry);
  registerConvertMemRefToLLVMInterface(registry);
  registerConvertNVVMToLLVMInterface(registry);
  ub::registerConvertUBToLLVMInterface(registry);
  registerBuiltinDialectTranslation(registry);
  registerGPUDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  registerNVVMDialectTranslation(registry);
}

namespace {
struct Chip {
  const char *name, *ptx;
};
} // namespace

// The PTX version is the smallest that has the chip and every instruction we emit: old drivers then
// take it too.
static constexpr Chip kChips[] = {{"sm_80", "+ptx70"},  {"sm_86", "+ptx71"},   {"sm_87", "+ptx74"},
                                  {"sm_89", "+ptx78"},  {"sm_90", "+ptx78"},   {"sm_90a", "+ptx80"},
                                  {"sm_100", "+ptx86"}, {"sm_100a", "+ptx86"}, {"sm_103", "+ptx88"},
                                  {"sm_120", "+ptx87"}, {"sm_120a", "+ptx87"}};

static const Chip *findChip(StringRef name) {
  for (const Chip &chip : kChips)
    if (name == chip.name)
      return &chip;
  return nullptr;
}

LogicalResult cuda::verifyChip(StringRef name, Location loc) {
  if (findChip(name))
    return success();
  InFlightDiagnostic diag = emitError(loc) << "unknown GPU '" << name << "'; expects one of";
  for (const Chip &chip : kChips)
    diag << ' ' << chip.name;
  return diag;
}

static LogicalResult lowerToLLVMDialect(gpu::GPUModuleOp module) {
  PassManager pm(module.getContext(), gpu::GPUModuleOp::getOperationName());
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(createSCFToControlFlowPass());
  // Before vectors: those in shared memory need its address space converted first.
  pm.addPass(createConvertGpuOpsToNVVMOps());
  pm.addPass(createConvertVectorToLLVMPass());
  pm.addPass(createConvertNVVMToLLVMPass());
  pm.addPass(createUBToLLVMConversionPass());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  return pm.run(module);
}

std::unique_ptr<llvm::TargetMachine> cuda::makeDeviceMachine(StringRef chip, Location loc) {
  if (failed(verifyChip(chip, loc)))
    return nullptr;
  LLVMInitializeNVPTXTargetInfo();
  LLVMInitializeNVPTXTarget();
  LLVMInitializeNVPTXTargetMC();
  LLVMInitializeNVPTXAsmPrinter();
  llvm::Triple triple("nvptx64-nvidia-cuda");
  std::string error;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target) {
    emitError(loc) << "this LLVM has no NVPTX code generator: " << error;
    return nullptr;
  }
  return std::unique_ptr<llvm::TargetMachine>(
      target->createTargetMachine(triple, chip, findChip(chip)->ptx, llvm::TargetOptions(),
                                  std::nullopt, std::nullopt, llvm::CodeGenOptLevel::Aggressive));
}

/// Device code has nothing to link with: every declaration must be an intrinsic.
static LogicalResult verifyNoCalls(llvm::Module &module, Location loc) {
  for (llvm::Function &function : module)
    if (function.isDeclaration() && !function.isIntrinsic() && !function.use_empty())
      return emitError(loc)
             << "GPU code calls '" << function.getName()
             << "', which no device library provides; lower that function to arithmetic first";
  return success();
}

std::unique_ptr<llvm::Module> cuda::makeDeviceModule(StringRef name, StringRef chip,
                                                    llvm::LLVMContext &context, Location loc) {
  std::unique_ptr<llvm::TargetMachine> machine = makeDeviceMachine(chip, loc);
  if (!machine)
    return nullptr;
  auto module = std::make_unique<llvm::Module>(name, context);
  module->setTargetTriple(machine->getTargetTriple());
  module->setDataLayout(machine->createDataLayout());
  return module;
}

std::unique_ptr<llvm::Module> cuda::translateKernels(gpu::GPUModuleOp op, StringRef chip,
                                                     llvm::LLVMContext &context) {
  std::unique_ptr<llvm::TargetMachine> machine = makeDeviceMachine(chip, op.getLoc());
  if (!machine)
    return nullptr;
  // Conversions look for a data layout in the enclosing module.
  OwningOpRef<ModuleOp> parent(ModuleOp::create(op.getLoc()));
  auto copy = cast<gpu::GPUModuleOp>(op->clone());
  parent->push_back(copy);
  if (failed(lowerToLLVMDialect(copy)))
    return nullptr;
  std::unique_ptr<llvm::Module> module = translateModuleToLLVMIR(copy, context, op.getName());
  if (!module)
    return nullptr;
  module->setTargetTriple(machine->getTargetTriple());
  module->setDataLayout(machine->createDataLayout());
  // Inlining and loop passes ask the machine for costs.
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager sccs;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(machine.get());
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(sccs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, sccs, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O3).run(*module, modules);
  if (failed(verifyNoCalls(*module, op.getLoc())))
    return nullptr;
  return module;
}

FailureOr<std::string> cuda::emitPTX(llvm::Module &module, StringRef chip, Location loc) {
  std::unique_ptr<llvm::TargetMachine> machine = makeDeviceMachine(chip, loc);
  if (!machine)
    return failure();
  llvm::SmallString<0> text;
  llvm::raw_svector_ostream stream(text);
  llvm::legacy::PassManager passes;
  if (machine->addPassesToEmitFile(passes, stream, nullptr, llvm::CodeGenFileType::AssemblyFile))
    return emitError(loc) << "this LLVM cannot print PTX";
  passes.run(module);
  return std::string(text);
}
