//===- EmulatorIR.cpp - device LLVM IR to calls of the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The input is the very module that becomes PTX, after all optimization. Each device instruction
// (an intrinsic or inline assembly) becomes a call through lowbit_emu_table; each
// access to global or shared memory is preceded by a check. Address spaces 1 and 3 need no
// rewriting: on x86-64 they are the flat one.
//
//===----------------------------------------------------------------------===//
#include "EmulatorRewriter.h"
#include "EmulatorSmallFloats.h"
#include "lowbit/Target/CUDA/Emit.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/Analysis/ValueTracking.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/ReplaceConstant.h"
#include "llvm/TargetParser/Host.h"

using namespace lowbit;
using namespace lowbit::cuda;
using llvm::CallInst;
using llvm::Instruction;
using llvm::IRBuilder;

void EmulatorRewriter::unknown(Instruction *inst, const llvm::Twine &what) {
  ++numUnknown;
  std::string text = (what + " (in " + inst->getFunction()->getName() + ")").str();
  if (reported.insert(text).second)
    emitError(loc) << "the emulator does not know " << text;
}

llvm::Value *EmulatorRewriter::call(IRBuilder<> &b, size_t offset, llvm::Type *result,
                                    ArrayRef<llvm::Value *> arguments) {
  llvm::Value *start = b.CreateLoad(b.getPtrTy(), table);
  llvm::Value *entry =
      b.CreateLoad(b.getPtrTy(), b.CreateConstGEP1_64(b.getInt8Ty(), start, offset));
  SmallVector<llvm::Type *> types;
  SmallVector<llvm::Value *> values;
  for (llvm::Value *argument : arguments) {
    if (argument->getType()->isPointerTy())
      argument = b.CreateAddrSpaceCast(argument, b.getPtrTy());
    values.push_back(argument);
    types.push_back(argument->getType());
  }
  return b.CreateCall(llvm::FunctionType::get(result, types, false), entry, values);
}

llvm::Value *EmulatorRewriter::scratch(llvm::Function *function, unsigned words, unsigned which) {
  std::string name = (which ? "lowbit.out" : "lowbit.in") + std::to_string(words);
  for (Instruction &inst : function->getEntryBlock())
    if (inst.getName() == name)
      return &inst;
  IRBuilder<> entry(&*function->getEntryBlock().getFirstInsertionPt());
  return entry.CreateAlloca(llvm::ArrayType::get(entry.getInt32Ty(), words), nullptr, name);
}

llvm::Value *EmulatorRewriter::callOnWords(IRBuilder<> &b, size_t offset, llvm::Type *result,
                                           ArrayRef<llvm::Value *> words,
                                           ArrayRef<llvm::Value *> more) {
  auto *type = dyn_cast<llvm::StructType>(result);
  unsigned results = type ? type->getNumElements() : result->isVoidTy() ? 0 : 1;
  llvm::Function *function = b.GetInsertBlock()->getParent();
  SmallVector<llvm::Value *> arguments;
  llvm::Value *in = nullptr, *out = nullptr;
  if (results)
    arguments.push_back(out = scratch(function, llvm::alignTo(results, 16), 1));
  if (!words.empty())
    arguments.push_back(in = scratch(function, llvm::alignTo(words.size(), 16), 0));
  for (auto [i, word] : llvm::enumerate(words))
    b.CreateStore(word, b.CreateConstGEP1_64(b.getInt32Ty(), in, i));
  arguments.append(more.begin(), more.end());
  llvm::Value *called = call(b, offset, b.getVoidTy(), arguments);
  if (!results)
    return called;
  if (!type)
    return b.CreateLoad(result, out);
  llvm::Value *aggregate = llvm::PoisonValue::get(type);
  for (unsigned i = 0; i < results; ++i) {
    llvm::Value *word =
        b.CreateLoad(type->getElementType(i), b.CreateConstGEP1_64(b.getInt32Ty(), out, i));
    aggregate = b.CreateInsertValue(aggregate, word, i);
  }
  return aggregate;
}

std::optional<unsigned> EmulatorRewriter::spaceOf(llvm::Value *pointer) {
  switch (pointer->getType()->getPointerAddressSpace()) {
  case 1:
    return LOWBIT_EMU_GLOBAL;
  case 3:
  case 7:
    return LOWBIT_EMU_SHARED;
  case 0:
    break;
  default:
    return std::nullopt;
  }
  // A flat pointer: the stack's and constants need no check, a parameter is global memory.
  const llvm::Value *object = llvm::getUnderlyingObject(pointer);
  if (isa<llvm::AllocaInst>(object))
    return std::nullopt;
  if (auto *global = dyn_cast<llvm::GlobalVariable>(object))
    if (global->getAddressSpace() != 3)
      return std::nullopt;
  if (auto *argument = dyn_cast<llvm::Argument>(object))
    return argument->hasByValAttr() ? std::optional<unsigned>() : LOWBIT_EMU_GLOBAL;
  return LOWBIT_EMU_FLAT;
}

void EmulatorRewriter::checkAccess(Instruction *inst, llvm::Value *pointer, llvm::Type *type,
                                   llvm::Align align, unsigned access) {
  std::optional<unsigned> space = spaceOf(pointer);
  if (!space)
    return;
  IRBuilder<> b(inst);
  uint64_t bytes = module.getDataLayout().getTypeStoreSize(type);
  // What is aligned to less than its size becomes several accesses in PTX.
  uint64_t step = std::min(bytes, align.value());
  if (bytes % step)
    step = 1;
  for (uint64_t at = 0; at < bytes; at += step)
    call(b, LOWBIT_ENTRY(check), b.getVoidTy(),
         {at ? b.CreateConstGEP1_64(b.getInt8Ty(), pointer, at) : pointer, b.getInt64(step),
          b.getInt32(access | *space)});
}

void EmulatorRewriter::checkBytes(Instruction *inst, llvm::Value *pointer, llvm::Value *bytes,
                                  unsigned access) {
  std::optional<unsigned> space = spaceOf(pointer);
  if (!space)
    return;
  IRBuilder<> b(inst);
  call(b, LOWBIT_ENTRY(check), b.getVoidTy(),
       {pointer, b.CreateZExt(bytes, b.getInt64Ty()),
        b.getInt32(access | *space | LOWBIT_EMU_UNALIGNED)});
}

void EmulatorRewriter::rewriteInstruction(Instruction *inst) {
  if (auto *load = dyn_cast<llvm::LoadInst>(inst))
    return checkAccess(load, load->getPointerOperand(), load->getType(), load->getAlign(),
                       LOWBIT_EMU_READ_ACCESS);
  if (auto *store = dyn_cast<llvm::StoreInst>(inst))
    return checkAccess(store, store->getPointerOperand(), store->getValueOperand()->getType(),
                       store->getAlign(), LOWBIT_EMU_WRITE_ACCESS);
  if (auto *atomic = dyn_cast<llvm::AtomicRMWInst>(inst)) {
    // Sums of floats order nothing: a million of them would each carry a clock.
    bool orders = atomic->getOrdering() != llvm::AtomicOrdering::Monotonic &&
                  atomic->getType()->isIntegerTy();
    return checkAccess(atomic, atomic->getPointerOperand(), atomic->getType(), atomic->getAlign(),
                       LOWBIT_EMU_ATOMIC_ACCESS | (orders ? LOWBIT_EMU_ORDERED : 0));
  }
  if (auto *exchange = dyn_cast<llvm::AtomicCmpXchgInst>(inst)) {
    bool orders = exchange->getSuccessOrdering() != llvm::AtomicOrdering::Monotonic;
    return checkAccess(exchange, exchange->getPointerOperand(),
                       exchange->getNewValOperand()->getType(), exchange->getAlign(),
                       LOWBIT_EMU_ATOMIC_ACCESS | (orders ? LOWBIT_EMU_ORDERED : 0));
  }
  if (isa<llvm::FenceInst>(inst)) {
    IRBuilder<> b(inst);
    call(b, LOWBIT_ENTRY(fence), b.getVoidTy(), b.getInt32(LOWBIT_EMU_FENCE_DEVICE));
    return;
  }
  if (auto *memory = dyn_cast<llvm::MemIntrinsic>(inst)) {
    checkBytes(memory, memory->getRawDest(), memory->getLength(), LOWBIT_EMU_WRITE_ACCESS);
    if (auto *transfer = dyn_cast<llvm::MemTransferInst>(memory))
      checkBytes(memory, transfer->getRawSource(), memory->getLength(), LOWBIT_EMU_READ_ACCESS);
    return;
  }
  if (auto *call = dyn_cast<CallInst>(inst)) {
    if (call->isInlineAsm())
      return rewriteAssembly(call);
    if (call->getCalledFunction() && call->getCalledFunction()->isIntrinsic())
      return rewriteIntrinsic(call);
  }
}

/// Static arrays first, in the order of the module; then the one of unknown size, which shares its
/// start with what follows, as on the device.
LogicalResult EmulatorRewriter::rewriteSharedMemory() {
  uint64_t offset = 0;
  for (bool dynamic : {false, true})
    for (llvm::GlobalVariable &global : llvm::make_early_inc_range(module.globals())) {
      uint64_t bytes = module.getDataLayout().getTypeAllocSize(global.getValueType());
      if (global.getAddressSpace() != 3 || (bytes == 0) != dynamic)
        continue;
      offset =
          llvm::alignTo(offset, std::max<uint64_t>(16, global.getAlign().valueOrOne().value()));
      // Constant expressions on it become instructions, which can be given another operand.
      llvm::convertUsersOfConstantsToInstructions({&global});
      for (llvm::User *user : llvm::make_early_inc_range(global.users())) {
        auto *inst = dyn_cast<Instruction>(user);
        if (!inst)
          return emitError(loc) << "shared memory '" << global.getName()
                                << "' is used by a constant";
        Instruction *before = inst;
        if (auto *phi = dyn_cast<llvm::PHINode>(inst))
          before = &*phi->getFunction()->getEntryBlock().getFirstInsertionPt();
        IRBuilder<> b(before);
        llvm::Value *start = call(b, LOWBIT_ENTRY(shared_memory), b.getPtrTy(), {});
        start = b.CreateConstGEP1_64(b.getInt8Ty(), start, offset);
        inst->replaceUsesOfWith(&global, b.CreateAddrSpaceCast(start, global.getType()));
      }
      global.eraseFromParent();
      offset += bytes;
    }
  return success();
}

LogicalResult EmulatorRewriter::exportKernel(llvm::Function *kernel) {
  std::string name = kernel->getName().str();
  kernel->setName(name + ".thread");
  kernel->setLinkage(llvm::GlobalValue::InternalLinkage);
  kernel->setCallingConv(llvm::CallingConv::C);
  IRBuilder<> b(context);
  auto *type = llvm::FunctionType::get(b.getVoidTy(), {b.getPtrTy()}, false);
  auto *entry = llvm::Function::Create(type, llvm::GlobalValue::ExternalLinkage,
                                       "lowbit_emu_kernel_" + name, module);
  b.SetInsertPoint(llvm::BasicBlock::Create(context, "", entry));
  SmallVector<llvm::Value *> arguments;
  for (llvm::Argument &argument : kernel->args()) {
    llvm::Type *type = argument.getType();
    if (argument.hasByValAttr()) {
      arguments.push_back(b.CreateAddrSpaceCast(
          b.CreateLoad(b.getPtrTy(),
                       b.CreateConstGEP1_64(b.getPtrTy(), entry->getArg(0), argument.getArgNo())),
          type));
      continue;
    }
    bool integer = type->isIntegerTy() && type->getIntegerBitWidth() <= 64;
    if (!integer && !type->isPointerTy() && !type->isFloatTy() && !type->isDoubleTy())
      return emitError(loc) << "the emulator cannot pass parameter " << argument.getArgNo()
                            << " of kernel " << name;
    llvm::Value *slot = b.CreateLoad(
        b.getPtrTy(), b.CreateConstGEP1_64(b.getPtrTy(), entry->getArg(0), argument.getArgNo()));
    if (type->isIntegerTy(1)) {
      arguments.push_back(b.CreateTrunc(b.CreateLoad(b.getInt8Ty(), slot), type));
      continue;
    }
    arguments.push_back(b.CreateLoad(type, slot));
  }
  kernel->setAttributes(llvm::AttributeList());
  b.CreateCall(kernel, arguments);
  b.CreateRetVoid();
  new llvm::GlobalVariable(module, b.getInt32Ty(), /*isConstant=*/true,
                           llvm::GlobalValue::ExternalLinkage, b.getInt32(arguments.size()),
                           "lowbit_emu_parameters_" + name);
  return success();
}

LogicalResult EmulatorRewriter::run() {
  IRBuilder<> b(context);
  // Every object defines these two; the linker keeps one.
  table = new llvm::GlobalVariable(
      module, b.getPtrTy(), /*isConstant=*/false, llvm::GlobalValue::WeakAnyLinkage,
      llvm::ConstantPointerNull::get(b.getPtrTy()), "lowbit_emu_table");
  new llvm::GlobalVariable(module, b.getInt64Ty(), /*isConstant=*/true,
                           llvm::GlobalValue::WeakAnyLinkage, b.getInt64(LOWBIT_EMU_ABI),
                           "lowbit_emu_abi");
  llvm::Triple host(llvm::sys::getDefaultTargetTriple());
  module.setTargetTriple(host);
  module.setDataLayout(host.computeDataLayout());
  SmallVector<llvm::Function *> kernels;
  for (llvm::Function &function : module) {
    if (function.getCallingConv() == llvm::CallingConv::PTX_Kernel)
      kernels.push_back(&function);
    if (function.isDeclaration())
      continue;
    // Structures by value are tensor maps.
    for (llvm::Argument &argument : function.args())
      if (argument.hasByValAttr() &&
          module.getDataLayout().getTypeAllocSize(argument.getParamByValType()) != 128)
        return emitError(loc) << "the emulator cannot pass a structure to " << function.getName();
    SmallVector<Instruction *> all;
    for (Instruction &inst : llvm::instructions(function))
      all.push_back(&inst);
    for (Instruction *inst : all)
      rewriteInstruction(inst);
  }
  if (numUnknown)
    return failure();
  guardSums();
  if (failed(rewriteSharedMemory()))
    return failure();
  for (llvm::Function *kernel : kernels)
    if (failed(exportKernel(kernel)))
      return failure();
  // What is true of device code need not be of this.
  for (llvm::Function &function : module)
    if (!function.isIntrinsic())
      function.setAttributes(llvm::AttributeList());
  for (llvm::Function &function : llvm::make_early_inc_range(module))
    if (function.isDeclaration() && function.use_empty())
      function.eraseFromParent();
  // Kernel annotations name functions that are no kernels any more.
  for (llvm::NamedMDNode &node : llvm::make_early_inc_range(module.named_metadata()))
    if (node.getName().starts_with("nvvm"))
      node.eraseFromParent();
  return success();
}

LogicalResult cuda::rewriteForEmulator(llvm::Module &module, Location loc) {
  if (failed(EmulatorRewriter(module, loc).run()))
    return failure();
  defineSmallFloatRoundings(module);
  return success();
}
