//===- EmulatedKernel.cpp - runs a kernel that is written down in the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "EmulatedKernel.h"
#include "lowbit/InitAll.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace lowbit;
using namespace lowbit::test;

static std::string moduleText(const std::string &body, bool perThread,
                              const std::string &parameters) {
  std::string text = R"(gpu.module @m {
  llvm.mlir.global external @lowbit_shared() {addr_space = 3 : i32, alignment = 1024 : i64} : !llvm.array<0 x i8>
  llvm.func @k()" + parameters +
                     R"() attributes {gpu.kernel, nvvm.kernel} {
    %c0 = llvm.mlir.constant(0 : i32) : i32
    %c1 = llvm.mlir.constant(1 : i32) : i32
    %c32 = llvm.mlir.constant(32 : i32) : i32
    %all = llvm.mlir.constant(-1 : i32) : i32
    %shared = llvm.mlir.addressof @lowbit_shared : !llvm.ptr<3>
    %tid = nvvm.read.ptx.sreg.tid.x : i32
    %bid = nvvm.read.ptx.sreg.ctaid.x : i32
)";
  if (perThread)
    text += R"(    %px = llvm.getelementptr %in[%tid] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    %x = llvm.load %px : !llvm.ptr<1> -> i32
)";
  text += body;
  if (perThread)
    text += R"(    %pr = llvm.getelementptr %out[%tid] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    llvm.store %r, %pr : i32, !llvm.ptr<1>
)";
  return text + "    llvm.return\n  }\n}\n";
}

EmulatedKernel::EmulatedKernel(const std::string &body, bool perThread,
                               const std::string &parameters) {
  DialectRegistry registry;
  registerAllDialects(registry);
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  ScopedDiagnosticHandler handler(
      &context, [&](Diagnostic &diagnostic) { error += diagnostic.str() + "\n"; });
  EmitCUDAOptions options;
  PassManager emit(&context);
  SmallString<128> folder;
  if (llvm::sys::fs::createUniqueDirectory("lowbit-emulated", folder)) {
    error = "cannot make a temporary folder";
    return;
  }
  options.format = "emulator";
  options.chip = "sm_90a";
  options.output = std::string(folder);
  emit.addPass(createEmitCUDA(options));
  OwningOpRef<ModuleOp> root =
      parseSourceString<ModuleOp>(moduleText(body, perThread, parameters), &context);
  if (root && succeeded(emit.run(*root))) {
    llvm::sys::path::append(folder, "emulator.so");
    if (lowbit_emulator_open(folder.c_str(), &emulator) != LOWBIT_OK)
      error = lowbit_emulator_last_error();
  }
  llvm::sys::fs::remove_directories(options.output);
}

EmulatedKernel::~EmulatedKernel() { lowbit_emulator_close(emulator); }

std::string EmulatedKernel::run(std::vector<lowbit_emu_argument> arguments, uint32_t threads,
                                uint32_t blocks, uint32_t flags, uint64_t seed) {
  if (!error.empty())
    return error;
  statistics = {};
  statistics.size = sizeof statistics;
  lowbit_emu_launch launch = {sizeof launch, {blocks, 1, 1}, {threads, 1, 1}, 32768, seed, flags, 0,
                              &statistics};
  return lowbit_emulator_run(emulator, "k", &launch, arguments.data(), arguments.size()) ==
                 LOWBIT_OK
             ? ""
             : lowbit_emulator_last_error();
}
