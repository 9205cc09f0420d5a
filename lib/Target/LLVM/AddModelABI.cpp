//===- AddModelABI.cpp - the entry points of a model ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ModelGlobals.h"
#include "lowbit-c/Model.h"
#include "lowbit/Target/LLVM/Passes.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"

namespace lowbit {
#define GEN_PASS_DEF_ADDMODELABI
#include "lowbit/Target/LLVM/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
struct AddModelABI : public lowbit::impl::AddModelABIBase<AddModelABI> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto wrapper = module.lookupSymbol<LLVM::LLVMFuncOp>("_mlir_ciface_main_graph");
    if (!wrapper) {
      module.emitError(
          "expects @main_graph with llvm.emit_c_interface, lowered to the LLVM dialect");
      return signalPassFailure();
    }
    OpBuilder builder(&getContext());
    Location loc = module.getLoc();
    auto pointer = LLVM::LLVMPointerType::get(&getContext());
    auto none = LLVM::LLVMVoidType::get(&getContext());
    Type i64 = builder.getI64Type();

    auto function = [&](StringRef name, Type result, ArrayRef<Type> args, LLVM::Linkage linkage) {
      auto func = module.lookupSymbol<LLVM::LLVMFuncOp>(name);
      builder.setInsertionPointToEnd(module.getBody());
      if (!func)
        func =
            LLVM::LLVMFuncOp::create(builder, loc, name, LLVM::LLVMFunctionType::get(result, args));
      func.setLinkage(linkage);
      builder.setInsertionPointToStart(func.addEntryBlock(builder));
      return func;
    };
    auto exported = LLVM::Linkage::External;

    function("lowbit_model_abi", i64, {}, exported);
    LLVM::ReturnOp::create(
        builder, loc,
        LLVM::ConstantOp::create(builder, loc, builder.getI64IntegerAttr(LOWBIT_MODEL_ABI))
            .getResult());

    auto init = function("lowbit_model_init", none, {pointer, pointer, i64}, exported);
    for (auto [index, name, type] : {std::tuple(0, kTableGlobal, Type(pointer)),
                                     {1, kWeightsGlobal, pointer},
                                     {2, kISAGlobal, i64}}) {
      Value address =
          LLVM::AddressOfOp::create(builder, loc, getModelGlobal(module, builder, name, type));
      LLVM::StoreOp::create(builder, loc, init.getArgument(index), address);
    }
    LLVM::ReturnOp::create(builder, loc, ValueRange());

    // The wrapper takes the results' address first (if there are results), then one descriptor
    // each.
    auto run = function("lowbit_model_run", none, {pointer, pointer}, exported);
    auto inputs = module->getAttrOfType<IntegerAttr>("lowbit_rt.num_inputs");
    int64_t count = inputs ? inputs.getInt() : wrapper.getNumArguments() - 1;
    numInputs = count;
    SmallVector<Value> operands;
    if ((int64_t)wrapper.getNumArguments() > count)
      operands.push_back(run.getArgument(1));
    for (int64_t i = 0; i < count; ++i) {
      Value slot = LLVM::GEPOp::create(builder, loc, pointer, pointer, run.getArgument(0),
                                       LLVM::GEPArg(static_cast<int32_t>(i)));
      operands.push_back(LLVM::LoadOp::create(builder, loc, pointer, slot));
    }
    LLVM::CallOp::create(builder, loc, wrapper, operands);
    LLVM::ReturnOp::create(builder, loc, ValueRange());

    // What memref's lowering calls (use-generic-functions).
    Value alignment;
    auto alloc = function("_mlir_memref_to_llvm_alloc", pointer, {i64}, LLVM::Linkage::Internal);
    alignment = LLVM::ConstantOp::create(builder, loc, builder.getI64IntegerAttr(64));
    LLVM::ReturnOp::create(
        builder, loc,
        callRuntime(module, builder, loc, Callback::Alloc, {alloc.getArgument(0), alignment}));
    auto aligned = function("_mlir_memref_to_llvm_aligned_alloc", pointer, {i64, i64},
                            LLVM::Linkage::Internal);
    LLVM::ReturnOp::create(builder, loc,
                           callRuntime(module, builder, loc, Callback::Alloc,
                                       {aligned.getArgument(1), aligned.getArgument(0)}));
    auto release = function("_mlir_memref_to_llvm_free", none, {pointer}, LLVM::Linkage::Internal);
    callRuntime(module, builder, loc, Callback::Free, release.getArgument(0));
    LLVM::ReturnOp::create(builder, loc, ValueRange());

    for (auto func : module.getOps<LLVM::LLVMFuncOp>()) {
      // What the conversion of a buffer to several arguments could not carry along.
      if (auto pointers = func->getAttrOfType<DenseI64ArrayAttr>(kNoAlias))
        for (int64_t argument : pointers.asArrayRef())
          func.setArgAttr(argument, LLVM::LLVMDialect::getNoAliasAttrName(), builder.getUnitAttr());
      func->removeAttr(kNoAlias);
      if (!func.isExternal() && !func.getName().starts_with("lowbit_model_"))
        func.setLinkage(LLVM::Linkage::Internal);
    }
  }
};
} // namespace
