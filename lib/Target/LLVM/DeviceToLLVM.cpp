//===- DeviceToLLVM.cpp - calls of the device become calls through the callback table ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ModelGlobals.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "mlir/Conversion/LLVMCommon/Pattern.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace lowbit;

/// Room for `words` values of 64 bits, taken in the entry block: an op in a loop takes no more of the
/// stack.
static Value reserveWords(Operation *op, size_t words, OpBuilder &builder) {
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(
      &op->getParentOfType<FunctionOpInterface>().getFunctionBody().front());
  Type i64 = builder.getI64Type();
  Value count = LLVM::ConstantOp::create(builder, op->getLoc(), i64,
                                         static_cast<int64_t>(std::max<size_t>(words, 1)));
  return LLVM::AllocaOp::create(builder, op->getLoc(),
                                LLVM::LLVMPointerType::get(op->getContext()), i64, count);
}

/// Stores `value` in the low bytes of word `index`.
static void storeWord(Value words, size_t index, Value value, Location loc, OpBuilder &builder) {
  auto pointer = LLVM::LLVMPointerType::get(builder.getContext());
  Value slot = LLVM::GEPOp::create(builder, loc, pointer, builder.getI64Type(), words,
                                   LLVM::GEPArg(static_cast<int32_t>(index)));
  LLVM::StoreOp::create(builder, loc, value, slot);
}

namespace {
struct DeviceAllocLowering : public ConvertOpToLLVMPattern<rt::DeviceAllocOp> {
  using ConvertOpToLLVMPattern::ConvertOpToLLVMPattern;
  LogicalResult matchAndRewrite(rt::DeviceAllocOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    auto type = cast<MemRefType>(op.getType());
    SmallVector<Value> sizes, strides;
    Value bytes;
    getMemRefDescriptorSizes(op.getLoc(), type, adaptor.getSizes(), rewriter, sizes, strides,
                             bytes);
    Value address = callRuntime(op->getParentOfType<ModuleOp>(), rewriter, op.getLoc(),
                                Callback::DeviceAlloc, bytes);
    rewriter.replaceOp(op, Value(createMemRefDescriptor(op.getLoc(), type, address, address, sizes,
                                                        strides, rewriter)));
    return success();
  }
};

struct DeviceFreeLowering : public ConvertOpToLLVMPattern<rt::DeviceFreeOp> {
  using ConvertOpToLLVMPattern::ConvertOpToLLVMPattern;
  LogicalResult matchAndRewrite(rt::DeviceFreeOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    Value address = MemRefDescriptor(adaptor.getMemref()).allocatedPtr(rewriter, op.getLoc());
    callRuntime(op->getParentOfType<ModuleOp>(), rewriter, op.getLoc(), Callback::DeviceFree,
                address);
    rewriter.eraseOp(op);
    return success();
  }
};

struct TransferLowering : public ConvertOpToLLVMPattern<rt::TransferOp> {
  using ConvertOpToLLVMPattern::ConvertOpToLLVMPattern;
  LogicalResult matchAndRewrite(rt::TransferOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    auto fromType = cast<MemRefType>(op.getFrom().getType()),
         toType = cast<MemRefType>(op.getTo().getType());
    MemRefDescriptor from(adaptor.getFrom()), to(adaptor.getTo());
    // The number of elements times the size of one.
    Value bytes = getSizeInBytes(loc, fromType.getElementType(), rewriter);
    for (int64_t d = 0; d < fromType.getRank(); ++d)
      bytes = LLVM::MulOp::create(rewriter, loc, bytes, from.size(rewriter, loc, d));
    callRuntime(op->getParentOfType<ModuleOp>(), rewriter, loc, Callback::Transfer,
                {to.bufferPtr(rewriter, loc, *getTypeConverter(), toType),
                 from.bufferPtr(rewriter, loc, *getTypeConverter(), fromType), bytes});
    rewriter.eraseOp(op);
    return success();
  }
};

struct EnqueueLowering : public ConvertOpToLLVMPattern<rt::EnqueueOp> {
  using ConvertOpToLLVMPattern::ConvertOpToLLVMPattern;
  LogicalResult matchAndRewrite(rt::EnqueueOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    Location loc = op.getLoc();
    auto constant = [&](int64_t value) -> Value {
      return LLVM::ConstantOp::create(rewriter, loc, rewriter.getI64Type(), value);
    };
    Value shape = reserveWords(op, 7, rewriter);
    size_t at = 0;
    for (ValueRange sizes : {adaptor.getGrid(), adaptor.getBlock()})
      for (Value size : sizes)
        storeWord(shape, at++, size, loc, rewriter);
    storeWord(shape, at, constant(op.getShared()), loc, rewriter);
    Value arguments = reserveWords(op, adaptor.getArgs().size(), rewriter);
    for (auto [index, value] : llvm::enumerate(adaptor.getArgs()))
      storeWord(arguments, index, value, loc, rewriter);
    callRuntime(op->getParentOfType<ModuleOp>(), rewriter, loc, Callback::Enqueue,
                {constant(op.getKernel()), shape, arguments,
                 constant(static_cast<int64_t>(adaptor.getArgs().size()))});
    rewriter.eraseOp(op);
    return success();
  }
};
} // namespace

void lowbit::populateDeviceToLLVMPatterns(const LLVMTypeConverter &converter,
                                          RewritePatternSet &patterns) {
  patterns.add<DeviceAllocLowering, DeviceFreeLowering, TransferLowering, EnqueueLowering>(
      converter);
}
