//===- EmitCUDA.cpp - writes the code of every gpu.module ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/CUDA/Emit.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/Module.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

namespace lowbit {
#define GEN_PASS_DEF_EMITCUDA
#include "lowbit/Target/CUDA/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct EmitCUDA : lowbit::impl::EmitCUDABase<EmitCUDA> {
  using EmitCUDABase::EmitCUDABase;
  void getDependentDialects(DialectRegistry &registry) const override {
    EmitCUDABase::getDependentDialects(registry);
    cuda::registerEmission(registry);
  }
  void runOnOperation() override {
    if (failed(emit()))
      signalPassFailure();
  }

  LogicalResult write(StringRef name, StringRef bytes) {
    SmallString<128> path(output);
    llvm::sys::path::append(path, name);
    std::error_code error;
    llvm::raw_fd_ostream stream(path, error);
    if (!error) {
      stream << bytes;
      stream.close();
      error = stream.error();
    }
    stream.clear_error();
    return error ? getOperation().emitError() << "cannot write " << path << ": " << error.message()
                 : success();
  }

  LogicalResult emit() {
    Location loc = getOperation().getLoc();
    if (format != "ptx" && format != "cubin" && format != "llvm" && format != "emulator")
      return emitError(loc) << "unknown format '" << format
                            << "'; expects ptx, cubin, llvm or emulator";
    if (auto error = llvm::sys::fs::create_directories(output))
      return emitError(loc) << "cannot make the folder " << output << ": " << error.message();
    llvm::LLVMContext context;
    std::vector<std::unique_ptr<llvm::Module>> modules;
    for (auto op : llvm::to_vector(getOperation().getOps<gpu::GPUModuleOp>())) {
      std::unique_ptr<llvm::Module> module = cuda::translateKernels(op, chip, context);
      if (!module || failed(emitOne(op, *module)))
        return failure();
      modules.push_back(std::move(module));
      ++emitted;
    }
    if (format != "emulator" || modules.empty())
      return success();
    SmallString<128> path(output);
    llvm::sys::path::append(path, "emulator.so");
    SmallVector<llvm::Module *> pointers;
    for (auto &module : modules)
      pointers.push_back(module.get());
    return cuda::emitEmulatorObject(pointers, path, loc);
  }

  LogicalResult emitOne(gpu::GPUModuleOp op, llvm::Module &module) {
    std::string name = op.getName().str();
    if (format == "llvm") {
      std::string text;
      llvm::raw_string_ostream stream(text);
      module.print(stream, nullptr);
      return write(name + ".ll", text);
    }
    if (format == "emulator")
      return cuda::rewriteForEmulator(module, op.getLoc());
    FailureOr<std::string> ptx = cuda::emitPTX(module, chip, op.getLoc());
    if (failed(ptx) || failed(write(name + ".ptx", *ptx)))
      return failure();
    if (format == "ptx")
      return success();
    FailureOr<cuda::Cubin> cubin = cuda::assemble(*ptx, chip, op.getLoc());
    if (failed(cubin) || failed(write(name + ".cubin", cubin->bytes)))
      return failure();
    op->setAttr("lowbit.registers",
                IntegerAttr::get(IntegerType::get(op.getContext(), 64), cubin->registers));
    op->setAttr("lowbit.spill_bytes",
                IntegerAttr::get(IntegerType::get(op.getContext(), 64), cubin->spillBytes));
    registers = std::max<int64_t>(registers, cubin->registers);
    spills += cubin->spillBytes;
    return success();
  }
};
} // namespace
