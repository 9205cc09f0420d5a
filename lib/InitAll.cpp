//===- InitAll.cpp - registers every dialect and pass ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/InitAll.h"
#include "lowbit/Conversion/Passes.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Dialect/ONNX/IR/QuantizableModels.h"
#include "lowbit/Interfaces/QuantizableOpInterface.h"
#include "lowbit/Pipelines/Pipelines.h"
#include "lowbit/Target/CPU/CPUTarget.h"
#include "lowbit/Target/CPU/Passes.h"
#include "lowbit/Target/CUDA/CUDATarget.h"
#include "lowbit/Target/CUDA/Emit.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "lowbit/Target/CUDA/Pipeline.h"
#include "lowbit/Target/LLVM/Passes.h"
#include "lowbit/Target/LLVM/Pipeline.h"
#include "lowbit/Transforms/Passes.h"

void lowbit::registerAllDialects(mlir::DialectRegistry &registry) {
  registry.insert<onnx::ONNXDialect, LowbitDialect, rt::LowbitRTDialect>();
  registerHostPipelineDialects(registry);
  registerCPUTarget();
  registerCUDATarget();
  cuda::registerEmission(registry);
  registerLinalgQuantizableModels(registry);
  onnx::registerQuantizableModels(registry);
}

void lowbit::registerAllPasses() {
  registerPipelines();
  registerLowbitTargetLLVMPasses();
  registerLowbitTargetCPUPasses();
  registerLowbitTargetCUDAPasses();
  cuda::registerPipelines();
  registerLowbitConversionPasses();
  registerLowbitTransformsPasses();
}
