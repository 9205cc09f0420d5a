//===- LowerLaunches.cpp - launches become calls of the runtime ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Target/CUDA/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"

namespace lowbit {
#define GEN_PASS_DEF_LOWERLAUNCHES
#include "lowbit/Target/CUDA/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct LowerLaunches : lowbit::impl::LowerLaunchesBase<LowerLaunches> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    for (auto [number, device] : llvm::enumerate(module.getOps<gpu::GPUModuleOp>())) {
      auto kernel = *device.getOps<gpu::GPUFuncOp>().begin();
      kernels[kernel.getName()] = {static_cast<int64_t>(number), kernel};
    }
    WalkResult result = module.walk([&](Operation *op) {
      bool done = true;
      if (auto launch = dyn_cast<rt::LaunchOp>(op))
        done = lower(launch);
      else if (auto launch = dyn_cast<gpu::LaunchFuncOp>(op))
        done = lower(launch);
      return done ? WalkResult::advance() : WalkResult::interrupt();
    });
    if (result.wasInterrupted())
      return signalPassFailure();
    for (auto device : llvm::make_early_inc_range(module.getOps<gpu::GPUModuleOp>()))
      device.erase();
    for (auto kernel : llvm::make_early_inc_range(module.getOps<rt::KernelOp>()))
      kernel.erase();
  }

private:
  struct Kernel {
    int64_t number = -1;
    gpu::GPUFuncOp function;
  };
  bool lower(rt::LaunchOp launch);
  bool lower(gpu::LaunchFuncOp launch);
  const Kernel *find(Operation *op, StringRef name) {
    auto found = kernels.find(name);
    if (found != kernels.end())
      return &found->second;
    op->emitError() << "launches '" << name << "', of which there is no kernel";
    return nullptr;
  }
  llvm::StringMap<Kernel> kernels;
};
} // namespace

/// The number of results over all axes but the last: what a generated kernel calls rows.
static Value countRows(OpBuilder &builder, Location loc, Value buffer) {
  Value rows = arith::ConstantIndexOp::create(builder, loc, 1);
  for (int64_t d = 0; d + 1 < cast<MemRefType>(buffer.getType()).getRank(); ++d)
    rows = arith::MulIOp::create(builder, loc, rows,
                                 memref::DimOp::create(builder, loc, buffer, d));
  return rows;
}

bool LowerLaunches::lower(rt::LaunchOp launch) {
  const Kernel *kernel = find(launch, launch.getKernel());
  if (!kernel)
    return false;
  OpBuilder builder(launch);
  Location loc = launch.getLoc();
  ArrayRef<int64_t> shape =
      kernel->function->getAttrOfType<DenseI64ArrayAttr>("lowbit.launch").asArrayRef();
  auto constant = [&](int64_t value) -> Value {
    return arith::ConstantIndexOp::create(builder, loc, value);
  };
  SmallVector<Value> args;
  for (ValueRange buffers : {ValueRange(launch.getInputs()), ValueRange(launch.getOutputs())})
    for (Value buffer : buffers)
      args.push_back(memref::ExtractAlignedPointerAsIndexOp::create(builder, loc, buffer));
  Value rows = countRows(builder, loc, launch.getOutputs()[0]);
  args.push_back(arith::IndexCastOp::create(builder, loc, builder.getI32Type(), rows));
  Value one = constant(1);
  Value blocks = arith::CeilDivUIOp::create(builder, loc, rows, constant(shape[1]));
  rt::EnqueueOp::create(builder, loc, builder.getI64IntegerAttr(kernel->number),
                        ValueRange{blocks, constant(shape[2]), one},
                        ValueRange{constant(shape[0]), one, one},
                        builder.getI64IntegerAttr(shape[3]), args);
  launch.erase();
  ++lowered;
  return true;
}

bool LowerLaunches::lower(gpu::LaunchFuncOp launch) {
  const Kernel *kernel = find(launch, launch.getKernelName());
  if (!kernel)
    return false;
  OpBuilder builder(launch);
  Location loc = launch.getLoc();
  SmallVector<Value> args;
  for (Value operand : launch.getKernelOperands()) {
    auto type = dyn_cast<MemRefType>(operand.getType());
    if (!type) {
      args.push_back(operand);
      continue;
    }
    // As the conversion of gpu.func spells a memref out.
    Value address = memref::ExtractAlignedPointerAsIndexOp::create(builder, loc, operand);
    auto fields = memref::ExtractStridedMetadataOp::create(builder, loc, operand);
    args.append({address, address, fields.getOffset()});
    llvm::append_range(args, fields.getSizes());
    llvm::append_range(args, fields.getStrides());
  }
  gpu::KernelDim3 grid = launch.getGridSizeOperandValues(),
                  block = launch.getBlockSizeOperandValues();
  rt::EnqueueOp::create(builder, loc, builder.getI64IntegerAttr(kernel->number),
                        ValueRange{grid.x, grid.y, grid.z}, ValueRange{block.x, block.y, block.z},
                        builder.getI64IntegerAttr(0), args);
  launch.erase();
  ++lowered;
  return true;
}
