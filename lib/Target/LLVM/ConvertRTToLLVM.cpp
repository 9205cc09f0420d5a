//===- ConvertRTToLLVM.cpp - runtime ops become calls through the callback table ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ModelGlobals.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Target/LLVM/Passes.h"
#include "mlir/Conversion/LLVMCommon/Pattern.h"
#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Transforms/DialectConversion.h"

namespace lowbit {
#define GEN_PASS_DEF_CONVERTRTTOLLVM
#include "lowbit/Target/LLVM/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

LLVM::GlobalOp lowbit::getModelGlobal(ModuleOp module, OpBuilder &builder, StringRef name,
                                      Type type) {
  if (auto global = module.lookupSymbol<LLVM::GlobalOp>(name))
    return global;
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(module.getBody());
  auto global = LLVM::GlobalOp::create(builder, module.getLoc(), type, /*isConstant=*/false,
                                       LLVM::Linkage::Internal, name, Attribute());
  Block *block = builder.createBlock(&global.getInitializerRegion());
  builder.setInsertionPointToStart(block);
  Value zero = LLVM::ZeroOp::create(builder, module.getLoc(), type);
  LLVM::ReturnOp::create(builder, module.getLoc(), zero);
  return global;
}

static Value loadGlobal(ModuleOp module, OpBuilder &builder, Location loc, StringRef name,
                        Type type) {
  LLVM::GlobalOp global = getModelGlobal(module, builder, name, type);
  Value address = LLVM::AddressOfOp::create(builder, loc, global);
  return LLVM::LoadOp::create(builder, loc, type, address);
}

Value lowbit::callRuntime(ModuleOp module, OpBuilder &builder, Location loc, Callback callback,
                          ValueRange args) {
  MLIRContext *context = module.getContext();
  auto pointer = LLVM::LLVMPointerType::get(context);
  Value table = loadGlobal(module, builder, loc, kTableGlobal, pointer);
  Value slot = LLVM::GEPOp::create(builder, loc, pointer, pointer, table,
                                   LLVM::GEPArg(static_cast<int32_t>(callback)));
  Value target = LLVM::LoadOp::create(builder, loc, pointer, slot);
  bool allocates = callback == Callback::Alloc || callback == Callback::DeviceAlloc;
  Type result = allocates ? Type(pointer) : LLVM::LLVMVoidType::get(context);
  auto type = LLVM::LLVMFunctionType::get(result, llvm::to_vector(args.getTypes()));
  SmallVector<Value> operands = {target};
  llvm::append_range(operands, args);
  auto call = LLVM::CallOp::create(builder, loc, type, operands);
  return allocates ? call.getResult() : Value();
}

namespace {
struct WeightLowering : public ConvertOpToLLVMPattern<rt::WeightOp> {
  using ConvertOpToLLVMPattern::ConvertOpToLLVMPattern;
  LogicalResult matchAndRewrite(rt::WeightOp op, OpAdaptor,
                                ConversionPatternRewriter &rewriter) const override {
    auto type = cast<MemRefType>(op.getType());
    auto pointer = LLVM::LLVMPointerType::get(getContext());
    Value base =
        loadGlobal(op->getParentOfType<ModuleOp>(), rewriter, op.getLoc(), kWeightsGlobal, pointer);
    // A constant GEPArg has 29 bits: beyond 256 MiB only a value will do.
    Value offset = LLVM::ConstantOp::create(rewriter, op.getLoc(), rewriter.getI64Type(),
                                            rewriter.getI64IntegerAttr(op.getOffset()));
    Value data = LLVM::GEPOp::create(rewriter, op.getLoc(), pointer, rewriter.getI8Type(), base,
                                     LLVM::GEPArg(offset));
    rewriter.replaceOp(op, {MemRefDescriptor::fromStaticShape(rewriter, op.getLoc(),
                                                              *getTypeConverter(), type, data)});
    return success();
  }
};

struct ISALowering : public ConvertOpToLLVMPattern<rt::ISAOp> {
  using ConvertOpToLLVMPattern::ConvertOpToLLVMPattern;
  LogicalResult matchAndRewrite(rt::ISAOp op, OpAdaptor,
                                ConversionPatternRewriter &rewriter) const override {
    rewriter.replaceOp(op, loadGlobal(op->getParentOfType<ModuleOp>(), rewriter, op.getLoc(),
                                      kISAGlobal, rewriter.getI64Type()));
    return success();
  }
};

/// The rank of a buffer and a pointer to its sizes, which are stored before `op`. Their memory is taken
/// in the entry block, so that an op in a loop takes no more of the stack.
static std::pair<Value, Value> storeSizes(Operation *op, MemRefDescriptor &buffer, MemRefType type,
                                          OpBuilder &builder) {
  Location loc = op->getLoc();
  Type i64 = builder.getI64Type();
  auto pointer = LLVM::LLVMPointerType::get(op->getContext());
  Value rank = LLVM::ConstantOp::create(builder, loc, i64, type.getRank()), sizes;
  {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(
        &op->getParentOfType<FunctionOpInterface>().getFunctionBody().front());
    Value room =
        LLVM::ConstantOp::create(builder, loc, i64, std::max<int64_t>(type.getRank(), 1));
    sizes = LLVM::AllocaOp::create(builder, loc, pointer, i64, room);
  }
  for (int64_t d = 0; d < type.getRank(); ++d) {
    Value slot = LLVM::GEPOp::create(builder, loc, pointer, i64, sizes,
                                     LLVM::GEPArg(static_cast<int32_t>(d)));
    LLVM::StoreOp::create(builder, loc, buffer.size(builder, loc, d), slot);
  }
  return {rank, sizes};
}

/// An op that shows a buffer to the host: callback(id, data, rank, dims).
template <typename OpTy, Callback callback>
struct BufferCallLowering : public ConvertOpToLLVMPattern<OpTy> {
  using ConvertOpToLLVMPattern<OpTy>::ConvertOpToLLVMPattern;
  LogicalResult matchAndRewrite(OpTy op, typename OpTy::Adaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    auto type = cast<MemRefType>(op.getInput().getType());
    Location loc = op.getLoc();
    MemRefDescriptor buffer(adaptor.getInput());
    auto [rank, dims] = storeSizes(op, buffer, type, rewriter);
    Value id = LLVM::ConstantOp::create(rewriter, loc, op.getIdAttr());
    Value data = buffer.bufferPtr(rewriter, loc, *this->getTypeConverter(), type);
    callRuntime(op->template getParentOfType<ModuleOp>(), rewriter, loc, callback,
                {id, data, rank, dims});
    rewriter.eraseOp(op);
    return success();
  }
};
using ObserveLowering = BufferCallLowering<rt::ObserveOp, Callback::Observe>;
using ExchangeLowering = BufferCallLowering<rt::ExchangeOp, Callback::Exchange>;

struct AssertLowering : public ConvertOpToLLVMPattern<rt::AssertOp> {
  using ConvertOpToLLVMPattern::ConvertOpToLLVMPattern;
  LogicalResult matchAndRewrite(rt::AssertOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    // Out of line: a check costs its loop one compare and one call that is never taken.
    auto module = op->getParentOfType<ModuleOp>();
    Location loc = op.getLoc();
    Block *before = rewriter.getInsertionBlock();
    Block *after = rewriter.splitBlock(before, Block::iterator(op));
    Block *fails = rewriter.createBlock(after);
    rewriter.setInsertionPointToEnd(before);
    LLVM::CondBrOp::create(rewriter, loc, adaptor.getCondition(), after, ValueRange(), fails,
                           ValueRange(), std::pair<int32_t, int32_t>(1000, 1));
    rewriter.setInsertionPointToStart(fails);
    callRuntime(module, rewriter, loc, Callback::Fail, {message(module, rewriter, op)});
    LLVM::BrOp::create(rewriter, loc, ValueRange(), after);
    rewriter.eraseOp(op);
    return success();
  }

  static Value message(ModuleOp module, OpBuilder &builder, rt::AssertOp op) {
    std::string text = op.getMessage().str() + '\0';
    unsigned index = 0;
    std::string name;
    LLVM::GlobalOp global;
    while ((global = module.lookupSymbol<LLVM::GlobalOp>(name = "lowbit_message_" +
                                                                std::to_string(index))) &&
           cast<StringAttr>(global.getValueAttr()).getValue() != text)
      ++index;
    if (!global) {
      OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToStart(module.getBody());
      auto type = LLVM::LLVMArrayType::get(builder.getI8Type(), text.size());
      global = LLVM::GlobalOp::create(builder, op.getLoc(), type, /*isConstant=*/true,
                                      LLVM::Linkage::Internal, name, builder.getStringAttr(text));
    }
    return LLVM::AddressOfOp::create(builder, op.getLoc(), global);
  }
};

struct ParallelLowering : public ConvertOpToLLVMPattern<rt::ParallelOp> {
  using ConvertOpToLLVMPattern::ConvertOpToLLVMPattern;
  LogicalResult matchAndRewrite(rt::ParallelOp op, OpAdaptor adaptor,
                                ConversionPatternRewriter &rewriter) const override {
    auto module = op->getParentOfType<ModuleOp>();
    Location loc = op.getLoc();
    auto pointer = LLVM::LLVMPointerType::get(getContext());
    auto body = module.lookupSymbol<func::FuncOp>(op.getBody());
    if (!body)
      return rewriter.notifyMatchFailure(op, "the body is not a function of this module");

    auto packed = LLVM::LLVMStructType::getLiteral(getContext(),
                                                   llvm::to_vector(adaptor.getArgs().getTypes()));
    std::string name = (op.getBody() + ".task").str();
    if (!module.lookupSymbol(name)) // Launches of one kernel have the same argument types.
      buildTask(module, rewriter, name, body, op.getArgs().getTypes(), packed);

    Value arguments = LLVM::UndefOp::create(rewriter, loc, packed);
    for (auto [index, arg] : llvm::enumerate(adaptor.getArgs()))
      arguments = LLVM::InsertValueOp::create(rewriter, loc, arguments, arg, index);
    Value memory;
    {
      OpBuilder::InsertionGuard guard(rewriter);
      rewriter.setInsertionPointToStart(
          &op->getParentOfType<FunctionOpInterface>().getFunctionBody().front());
      Value one = LLVM::ConstantOp::create(rewriter, loc, rewriter.getI64IntegerAttr(1));
      memory = LLVM::AllocaOp::create(rewriter, loc, pointer, packed, one);
    }
    LLVM::StoreOp::create(rewriter, loc, arguments, memory);
    Value task = LLVM::AddressOfOp::create(rewriter, loc, pointer, name);
    callRuntime(module, rewriter, loc, Callback::ParallelFor, {adaptor.getTasks(), task, memory});
    rewriter.eraseOp(op);
    return success();
  }

  /// llvm.func @body.task(argument, begin, end): unpacks the struct and calls the body.
  void buildTask(ModuleOp module, ConversionPatternRewriter &rewriter, StringRef name,
                 func::FuncOp body, TypeRange argTypes, Type packed) const {
    OpBuilder::InsertionGuard guard(rewriter);
    rewriter.setInsertionPointToEnd(module.getBody());
    Location loc = body.getLoc();
    auto pointer = LLVM::LLVMPointerType::get(getContext());
    Type i64 = rewriter.getI64Type();
    auto task = LLVM::LLVMFuncOp::create(
        rewriter, loc, name,
        LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(getContext()), {pointer, i64, i64}),
        LLVM::Linkage::Internal);
    Block *entry = task.addEntryBlock(rewriter);
    rewriter.setInsertionPointToStart(entry);
    Value arguments = LLVM::LoadOp::create(rewriter, loc, packed, entry->getArgument(0));
    // The body takes index and memref values; casts cancel once it is converted, too.
    auto index = rewriter.getIndexType();
    SmallVector<Value> operands;
    for (unsigned i : {1, 2})
      operands.push_back(
          UnrealizedConversionCastOp::create(rewriter, loc, index, entry->getArgument(i))
              .getResult(0));
    for (auto [position, type] : llvm::enumerate(argTypes)) {
      Value field = LLVM::ExtractValueOp::create(rewriter, loc, arguments, position);
      operands.push_back(
          UnrealizedConversionCastOp::create(rewriter, loc, type, field).getResult(0));
    }
    func::CallOp::create(rewriter, loc, body, operands);
    LLVM::ReturnOp::create(rewriter, loc, ValueRange());
  }
};

struct ConvertRTToLLVM : public lowbit::impl::ConvertRTToLLVMBase<ConvertRTToLLVM> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    module.walk([&](Operation *op) {
      numCalls += isa<rt::ParallelOp, rt::ObserveOp, rt::ExchangeOp, rt::AssertOp, rt::DeviceAllocOp,
                      rt::DeviceFreeOp, rt::TransferOp, rt::EnqueueOp>(op);
    });
    LLVMTypeConverter converter(&getContext());
    RewritePatternSet patterns(&getContext());
    patterns.add<WeightLowering, ISALowering, ObserveLowering, ExchangeLowering, AssertLowering,
                 ParallelLowering>(converter);
    populateDeviceToLLVMPatterns(converter, patterns);
    ConversionTarget target(getContext());
    target.markUnknownOpDynamicallyLegal([](Operation *) { return true; });
    target.addIllegalDialect<rt::LowbitRTDialect>();
    target.addLegalOp<rt::KernelOp>();
    if (failed(applyPartialConversion(module, target, std::move(patterns))))
      signalPassFailure();
  }
};
} // namespace
