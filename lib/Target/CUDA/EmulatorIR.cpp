//===- EmulatorIR.cpp - device LLVM IR to calls of the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The input is the very module that becomes PTX, after all optimization. Each device instruction
// (an intrinsic or whitelisted inline assembly) becomes a call through lowbit_emu_table; each
// access to global or shared memory is preceded by a check. Address spaces 1 and 3 need no
// rewriting: on x86-64 they are the flat one.
//
//===----------------------------------------------------------------------===//
#include "lowbit/Emulator/Table.h"
#include "EmulatorSmallFloats.h"
#include "lowbit/Target/CUDA/Emit.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Analysis/ValueTracking.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/ReplaceConstant.h"
#include "llvm/Support/Regex.h"
#include "llvm/TargetParser/Host.h"
#include <cstddef>

using namespace lowbit;
using llvm::CallInst;
using llvm::Instruction;
using llvm::IRBuilder;

namespace {
class Rewriter {
public:
  Rewriter(llvm::Module &module, Location loc)
      : module(module), loc(loc), context(module.getContext()) {}
  LogicalResult run();

private:
  /// Calls entry `offset` of the table.
  llvm::Value *call(IRBuilder<> &b, size_t offset, llvm::Type *result,
                    ArrayRef<llvm::Value *> arguments);
  /// The same for entries that take arrays of words: stores `words`, returns a struct of `results`
  /// loaded words.
  llvm::Value *callOnWords(IRBuilder<> &b, size_t offset, llvm::Type *result,
                           ArrayRef<llvm::Value *> words, ArrayRef<llvm::Value *> more);
  LogicalResult rewriteIntrinsic(CallInst *inst);
  LogicalResult rewriteAssembly(CallInst *inst);
  llvm::Value *rewriteShuffle(IRBuilder<> &b, CallInst *inst, StringRef name);
  void checkAccess(Instruction *inst, llvm::Value *pointer, llvm::Type *type, bool write);
  LogicalResult rewriteSharedMemory();
  LogicalResult exportKernel(llvm::Function *kernel);
  LogicalResult unknown(Instruction *inst, StringRef what) {
    return emitError(loc) << "the emulator does not know " << what << " (in "
                          << inst->getFunction()->getName() << ")";
  }

  llvm::Module &module;
  Location loc;
  llvm::LLVMContext &context;
  llvm::GlobalVariable *table = nullptr;
};
} // namespace

llvm::Value *Rewriter::call(IRBuilder<> &b, size_t offset, llvm::Type *result,
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

llvm::Value *Rewriter::callOnWords(IRBuilder<> &b, size_t offset, llvm::Type *result,
                                   ArrayRef<llvm::Value *> words, ArrayRef<llvm::Value *> more) {
  IRBuilder<> entry(&*b.GetInsertBlock()->getParent()->getEntryBlock().getFirstInsertionPt());
  llvm::Value *in =
      entry.CreateAlloca(llvm::ArrayType::get(b.getInt32Ty(), std::max<size_t>(words.size(), 1)));
  llvm::Value *out = entry.CreateAlloca(llvm::ArrayType::get(b.getInt32Ty(), 4));
  for (auto [i, word] : llvm::enumerate(words))
    b.CreateStore(word, b.CreateConstGEP1_64(b.getInt32Ty(), in, i));
  SmallVector<llvm::Value *> arguments = {out};
  if (!words.empty())
    arguments.push_back(in);
  arguments.append(more.begin(), more.end());
  call(b, offset, b.getVoidTy(), arguments);
  auto *type = dyn_cast<llvm::StructType>(result);
  if (!type)
    return b.CreateLoad(result, out);
  llvm::Value *aggregate = llvm::PoisonValue::get(type);
  for (unsigned i = 0; i < type->getNumElements(); ++i) {
    llvm::Value *word =
        b.CreateLoad(type->getElementType(i), b.CreateConstGEP1_64(b.getInt32Ty(), out, i));
    aggregate = b.CreateInsertValue(aggregate, word, i);
  }
  return aggregate;
}

#define ENTRY(NAME) offsetof(lowbit_emu_table_t, NAME)

static std::optional<unsigned> specialRegister(StringRef name) {
  return llvm::StringSwitch<std::optional<unsigned>>(name)
      .Case("tid.x", LOWBIT_EMU_TID_X)
      .Case("tid.y", LOWBIT_EMU_TID_Y)
      .Case("tid.z", LOWBIT_EMU_TID_Z)
      .Case("ntid.x", LOWBIT_EMU_NTID_X)
      .Case("ntid.y", LOWBIT_EMU_NTID_Y)
      .Case("ntid.z", LOWBIT_EMU_NTID_Z)
      .Case("ctaid.x", LOWBIT_EMU_CTAID_X)
      .Case("ctaid.y", LOWBIT_EMU_CTAID_Y)
      .Case("ctaid.z", LOWBIT_EMU_CTAID_Z)
      .Case("nctaid.x", LOWBIT_EMU_NCTAID_X)
      .Case("nctaid.y", LOWBIT_EMU_NCTAID_Y)
      .Case("nctaid.z", LOWBIT_EMU_NCTAID_Z)
      .Case("laneid", LOWBIT_EMU_LANEID)
      .Default(std::nullopt);
}

static std::optional<unsigned> approximation(StringRef name) {
  return llvm::StringSwitch<std::optional<unsigned>>(name)
      .Case("ex2", LOWBIT_EMU_EX2)
      .Case("lg2", LOWBIT_EMU_LG2)
      .Case("rcp", LOWBIT_EMU_RCP)
      .Case("rsqrt", LOWBIT_EMU_RSQRT)
      .Case("sqrt", LOWBIT_EMU_SQRT)
      .Case("sin", LOWBIT_EMU_SIN)
      .Case("cos", LOWBIT_EMU_COS)
      .Case("tanh", LOWBIT_EMU_TANH)
      .Default(std::nullopt);
}

static unsigned signsOf(StringRef a, StringRef b) {
  return (a == "u8" || a == "u" ? LOWBIT_EMU_UNSIGNED_A : 0) |
         (b == "u8" || b == "u" ? LOWBIT_EMU_UNSIGNED_B : 0);
}

llvm::Value *Rewriter::rewriteShuffle(IRBuilder<> &b, CallInst *inst, StringRef name) {
  std::optional<unsigned> kind = llvm::StringSwitch<std::optional<unsigned>>(name.split('.').first)
                                     .Case("idx", LOWBIT_EMU_SHUFFLE_IDX)
                                     .Case("up", LOWBIT_EMU_SHUFFLE_UP)
                                     .Case("down", LOWBIT_EMU_SHUFFLE_DOWN)
                                     .Case("bfly", LOWBIT_EMU_SHUFFLE_BFLY)
                                     .Default(std::nullopt);
  if (!kind || inst->getType()->isStructTy())
    return nullptr;
  llvm::Value *value = b.CreateBitCast(inst->getArgOperand(1), b.getInt32Ty());
  llvm::Value *result = call(b, ENTRY(shuffle), b.getInt32Ty(),
                             {inst->getArgOperand(0), value, inst->getArgOperand(2),
                              inst->getArgOperand(3), b.getInt32(*kind)});
  return b.CreateBitCast(result, inst->getType());
}

LogicalResult Rewriter::rewriteIntrinsic(CallInst *inst) {
  StringRef name = inst->getCalledFunction()->getName();
  if (name == "llvm.trap") {
    IRBuilder<> b(inst);
    call(b, ENTRY(trap), b.getVoidTy(), {});
    inst->eraseFromParent();
    return success();
  }
  if (!name.consume_front("llvm.nvvm."))
    return success(); // Every target has the others.
  IRBuilder<> b(inst);
  SmallVector<llvm::Value *> args(inst->args());
  llvm::Type *i32 = b.getInt32Ty(), *none = b.getVoidTy();
  llvm::Value *result = nullptr;
  llvm::Regex mmaInt8("^mma\\.m16n8k32\\.row\\.col\\.(s8|u8)(\\.(s8|u8))?$");
  llvm::Regex copy("^cp\\.async\\.(ca|cg)\\.shared\\.global\\.([0-9]+)(\\.s)?$");
  llvm::Regex matrix("^ldmatrix\\.sync\\.aligned\\.m8n8\\.x([124])(\\.trans)?\\.b16");
  SmallVector<StringRef> match;
  if (StringRef special = name; special.consume_front("read.ptx.sreg.")) {
    if (auto which = specialRegister(special))
      result = call(b, ENTRY(special_register), i32, b.getInt32(*which));
  } else if (copy.match(name, &match)) {
    unsigned bytes = 0;
    match[2].getAsInteger(10, bytes);
    result =
        call(b, ENTRY(copy_async), none,
             {args[0], args[1], b.getInt32(bytes), match[3].empty() ? b.getInt32(bytes) : args[2]});
  } else if (name == "cp.async.commit.group") {
    result = call(b, ENTRY(commit_group), none, {});
  } else if (name == "cp.async.wait.group") {
    result = call(b, ENTRY(wait_group), none, args);
  } else if (name == "cp.async.wait.all") {
    call(b, ENTRY(commit_group), none, {});
    result = call(b, ENTRY(wait_group), none, b.getInt32(0));
  } else if (name == "barrier.cta.sync.aligned.all") {
    result = call(b, ENTRY(barrier), none, args);
  } else if (name == "bar.warp.sync") {
    result = call(b, ENTRY(warp_barrier), none, args);
  } else if (matrix.match(name, &match)) {
    unsigned count = match[1][0] - '0';
    result = callOnWords(b, ENTRY(load_matrix), inst->getType(), {},
                         {args[0], b.getInt32(count), b.getInt32(!match[2].empty())});
  } else if (mmaInt8.match(name, &match)) {
    unsigned signs = signsOf(match[1], match[3].empty() ? match[1] : match[3]);
    result = callOnWords(b, ENTRY(mma_int8), inst->getType(), args, b.getInt32(signs));
  } else if (name == "mma.m16n8k16.row.col.f32.f32") {
    result = callOnWords(b, ENTRY(mma_half), inst->getType(), args, {});
  } else if (StringRef shuffle = name; shuffle.consume_front("shfl.sync.")) {
    result = rewriteShuffle(b, inst, shuffle);
  } else if (name == "prmt") {
    result = call(b, ENTRY(permute), i32, args);
  } else if (StringRef signs = name; signs.consume_front("idp4a.")) {
    auto [a, c] = signs.split('.');
    args.push_back(b.getInt32(signsOf(a, c)));
    result = call(b, ENTRY(dot4), i32, args);
  } else if (name == "f2i.rn" || name == "f2i.rn.ftz") {
    result = call(b, ENTRY(round_to_int), i32, args);
  } else if (auto which = approximation(name.split('.').first);
             which && inst->getType()->isFloatTy() && args.size() == 1) {
    result = call(b, ENTRY(function), b.getFloatTy(), {args[0], b.getInt32(*which)});
  }
  if (!result)
    return unknown(inst, inst->getCalledFunction()->getName());
  if (!inst->getType()->isVoidTy())
    inst->replaceAllUsesWith(result);
  inst->eraseFromParent();
  return success();
}

LogicalResult Rewriter::rewriteAssembly(CallInst *inst) {
  StringRef text = cast<llvm::InlineAsm>(inst->getCalledOperand())->getAsmString();
  llvm::Regex lop3("^lop3\\.b32 \\$0, \\$1, \\$2, \\$3, (0x[0-9A-Fa-f]+);$");
  SmallVector<StringRef> match;
  unsigned truth = 0;
  if (!lop3.match(text, &match) || match[1].getAsInteger(0, truth) || inst->arg_size() != 3)
    return unknown(inst, "the inline assembly '" + text.str() + "'");
  IRBuilder<> b(inst);
  SmallVector<llvm::Value *> args(inst->args());
  args.push_back(b.getInt32(truth));
  inst->replaceAllUsesWith(call(b, ENTRY(lop3), b.getInt32Ty(), args));
  inst->eraseFromParent();
  return success();
}

void Rewriter::checkAccess(Instruction *inst, llvm::Value *pointer, llvm::Type *type, bool write) {
  unsigned space = pointer->getType()->getPointerAddressSpace();
  // A flat pointer that came in as a parameter is global too; others are the stack's or a
  // constant's.
  if (space == 0 && isa<llvm::Argument>(llvm::getUnderlyingObject(pointer)))
    space = 1;
  if (space != 1 && space != 3)
    return;
  IRBuilder<> b(inst);
  uint64_t bytes = module.getDataLayout().getTypeStoreSize(type);
  unsigned access = space == 1 ? (write ? LOWBIT_EMU_GLOBAL_WRITE : LOWBIT_EMU_GLOBAL_READ)
                               : (write ? LOWBIT_EMU_SHARED_WRITE : LOWBIT_EMU_SHARED_READ);
  call(b, ENTRY(check), b.getVoidTy(), {pointer, b.getInt64(bytes), b.getInt32(access)});
}

/// Static arrays first, in the order of the module; then the one of unknown size, which shares its
/// start with what follows, as on the device.
LogicalResult Rewriter::rewriteSharedMemory() {
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
        llvm::Value *start = call(b, ENTRY(shared_memory), b.getPtrTy(), {});
        start = b.CreateConstGEP1_64(b.getInt8Ty(), start, offset);
        inst->replaceUsesOfWith(&global, b.CreateAddrSpaceCast(start, global.getType()));
      }
      global.eraseFromParent();
      offset += bytes;
    }
  return success();
}

LogicalResult Rewriter::exportKernel(llvm::Function *kernel) {
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
  b.CreateCall(kernel, arguments);
  b.CreateRetVoid();
  new llvm::GlobalVariable(module, b.getInt32Ty(), /*isConstant=*/true,
                           llvm::GlobalValue::ExternalLinkage, b.getInt32(arguments.size()),
                           "lowbit_emu_parameters_" + name);
  return success();
}

LogicalResult Rewriter::run() {
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
    for (llvm::Argument &argument : function.args())
      if (argument.hasByValAttr())
        return emitError(loc) << "the emulator cannot pass a structure to " << function.getName();
    function.setAttributes(llvm::AttributeList());
    SmallVector<Instruction *> all;
    for (Instruction &inst : llvm::instructions(function))
      all.push_back(&inst);
    for (Instruction *inst : all) {
      if (auto *load = dyn_cast<llvm::LoadInst>(inst))
        checkAccess(load, load->getPointerOperand(), load->getType(), false);
      else if (auto *store = dyn_cast<llvm::StoreInst>(inst))
        checkAccess(store, store->getPointerOperand(), store->getValueOperand()->getType(), true);
      else if (isa<llvm::AtomicRMWInst, llvm::AtomicCmpXchgInst>(inst))
        return unknown(inst, "atomic operations");
      auto *call = dyn_cast<CallInst>(inst);
      if (!call)
        continue;
      if (call->isInlineAsm()) {
        if (failed(rewriteAssembly(call)))
          return failure();
      } else if (call->getCalledFunction() && call->getCalledFunction()->isIntrinsic()) {
        if (failed(rewriteIntrinsic(call)))
          return failure();
      }
    }
  }
  if (failed(rewriteSharedMemory()))
    return failure();
  for (llvm::Function *kernel : kernels)
    if (failed(exportKernel(kernel)))
      return failure();
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
  if (failed(Rewriter(module, loc).run()))
    return failure();
  defineSmallFloatRoundings(module);
  return success();
}
