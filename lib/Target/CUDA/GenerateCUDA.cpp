//===- GenerateCUDA.cpp - builds the code of scheduled kernels ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Generators.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/BuiltinOps.h"

namespace lowbit {
#define GEN_PASS_DEF_GENERATECUDA
#include "lowbit/Target/CUDA/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;
using namespace lowbit::cuda;

using Generator = void (*)(ModuleOp, Location, StringRef, const Schedule &);

static Generator findGenerator(StringRef name) {
  if (name == "cuda.mma_s8")
    return generateMmaS8;
  if (name == "cuda.mma_f16" || name == "cuda.w4a16")
    return generateMmaF16;
  if (name == "cuda.gemv")
    return generateGemv;
  if (name == "cuda.combine")
    return generateCombine;
  if (name == "cuda.direct_s8")
    return generateDirectS8;
  if (name == "cuda.depthwise_s8")
    return generateDepthwiseS8;
  if (name == "cuda.rowquant")
    return generateRowQuant;
  if (name == "cuda.gather")
    return generateGather;
  return nullptr;
}

namespace {
struct GenerateCUDA : lowbit::impl::GenerateCUDABase<GenerateCUDA> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    for (auto kernel : llvm::to_vector(module.getOps<rt::KernelOp>())) {
      StringRef name = kernel.getGenerator();
      if (!name.starts_with("cuda."))
        continue;
      Generator generator = findGenerator(name);
      if (!generator) {
        kernel.emitError() << "unknown generator '" << name << "'";
        return signalPassFailure();
      }
      std::optional<Schedule> schedule =
          Schedule::fromAttr(name, kernel.getSchedule(), kernel.getLoc());
      if (!schedule || failed(verifySchedule(*schedule, kernel.getLoc())))
        return signalPassFailure();
      generator(module, kernel.getLoc(), kernel.getSymName(), *schedule);
      ++generated;
    }
  }
};
} // namespace
