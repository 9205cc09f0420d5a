//===- EmulatorPTX.cpp - inline PTX to calls of the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Inline assembly is read statement by statement. What is here is what kernels of ours contain;
// anything else is an error of compilation, so that no kernel leaves the compiler that the emulator
// cannot run.
//
//===----------------------------------------------------------------------===//
#include "EmulatorRewriter.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/Instructions.h"
#include "llvm/Support/Regex.h"

using namespace lowbit;
using namespace lowbit::cuda;

namespace {
/// `opcode operand, operand, …`; a list {a, b} counts as its elements, [address] as the address.
struct Statement {
  StringRef opcode;
  SmallVector<StringRef> operands;
};
} // namespace

static Statement parse(StringRef text) {
  Statement statement;
  text = text.trim();
  size_t end = text.find_first_of(" \t\n");
  statement.opcode = text.substr(0, end);
  if (end == StringRef::npos)
    return statement;
  SmallVector<StringRef> pieces;
  text.substr(end).split(pieces, ',');
  for (StringRef piece : pieces)
    statement.operands.push_back(piece.trim(" \t\n{}[]"));
  return statement;
}

/// Operands by number: results first, then arguments; a tied argument ("0") has a number of its
/// own.
static unsigned numOutputs(const llvm::CallInst *inst) {
  llvm::Type *type = inst->getType();
  if (type->isVoidTy())
    return 0;
  auto *fields = dyn_cast<llvm::StructType>(type);
  return fields ? fields->getNumElements() : 1;
}

static llvm::Type *outputType(const llvm::CallInst *inst, unsigned index) {
  auto *fields = dyn_cast<llvm::StructType>(inst->getType());
  return fields ? fields->getElementType(index) : inst->getType();
}

/// The same bits, or the low ones, as another type: registers have no types.
static llvm::Value *reinterpret(llvm::IRBuilder<> &b, llvm::Value *value, llvm::Type *type) {
  if (value->getType() == type)
    return value;
  if (value->getType()->isPointerTy())
    return b.CreatePtrToInt(value, type);
  unsigned from = value->getType()->getPrimitiveSizeInBits(), to = type->getPrimitiveSizeInBits();
  value = b.CreateBitCast(value, b.getIntNTy(from));
  return b.CreateBitCast(b.CreateZExtOrTrunc(value, b.getIntNTy(to)), type);
}

static unsigned roundingOf(StringRef opcode) {
  SmallVector<StringRef> parts;
  opcode.split(parts, '.');
  for (StringRef part : parts) {
    if (part == "rz" || part == "rzi")
      return LOWBIT_EMU_ROUND_ZERO;
    if (part == "rm" || part == "rmi")
      return LOWBIT_EMU_ROUND_DOWN;
    if (part == "rp" || part == "rpi")
      return LOWBIT_EMU_ROUND_UP;
  }
  return LOWBIT_EMU_ROUND_NEAREST_EVEN;
}

LogicalResult EmulatorRewriter::rewriteStatement(Builder &b, StringRef text, llvm::CallInst *inst,
                                                 MutableArrayRef<llvm::Value *> outputs) {
  Statement statement = parse(text);
  StringRef opcode = statement.opcode;
  llvm::Type *i32 = b.getInt32Ty(), *nothing = b.getVoidTy();
  bool bad = false;
  // Operand `i` of the statement as an argument, as bits of `type` (null: as it is).
  auto in = [&](unsigned i, llvm::Type *type) -> llvm::Value * {
    llvm::Value *failed = llvm::PoisonValue::get(type ? type : i32);
    StringRef name = i < statement.operands.size() ? statement.operands[i] : "";
    if (uint64_t literal = 0; !name.getAsInteger(0, literal) && type && type->isIntegerTy())
      return llvm::ConstantInt::get(type, literal);
    unsigned number = 0;
    if (!name.consume_front("$") || name.getAsInteger(10, number) || number < outputs.size() ||
        number - outputs.size() >= inst->arg_size()) {
      bad = true;
      return failed;
    }
    llvm::Value *value = inst->getArgOperand(number - outputs.size());
    return type ? reinterpret(b, value, type) : value;
  };
  auto word = [&](unsigned i) { return in(i, i32); };
  auto out = [&](unsigned i, llvm::Value *value) {
    StringRef name = i < statement.operands.size() ? statement.operands[i] : "";
    unsigned number = 0;
    if (!name.consume_front("$") || name.getAsInteger(10, number) || number >= outputs.size()) {
      bad = true;
      return;
    }
    outputs[number] = reinterpret(b, value, outputType(inst, number));
  };
  auto done = [&] { return failure(bad); };
  SmallVector<StringRef> match;

  if (opcode == "lop3.b32") {
    out(0, call(b, LOWBIT_ENTRY(lop3), i32, {word(1), word(2), word(3), word(4)}));
    return done();
  }
  if (opcode == "prmt.b32") {
    out(0, call(b, LOWBIT_ENTRY(permute), i32, {word(1), word(2), word(3)}));
    return done();
  }
  if (llvm::Regex dp4a("^dp4a\\.([us])32\\.([us])32$"); dp4a.match(opcode, &match)) {
    unsigned signs = (match[1] == "u" ? LOWBIT_EMU_UNSIGNED_A : 0) |
                     (match[2] == "u" ? LOWBIT_EMU_UNSIGNED_B : 0);
    out(0, call(b, LOWBIT_ENTRY(dot4), i32, {word(1), word(2), word(3), b.getInt32(signs)}));
    return done();
  }
  // Floats to integers saturate, with or without .sat.
  if (llvm::Regex convert(
          "^cvt\\.(rn|rz|rm|rp)i(\\.ftz)?(\\.sat)?\\.([us])(8|16|32|64)\\.f(16|32|64)$");
      convert.match(opcode, &match)) {
    unsigned bits = 0, from = 0;
    match[5].getAsInteger(10, bits);
    match[6].getAsInteger(10, from);
    llvm::Type *real = from == 16 ? b.getHalfTy() : from == 32 ? b.getFloatTy() : b.getDoubleTy();
    llvm::Value *result = toInteger(b, in(1, real), roundingOf(opcode), bits, match[4] == "u");
    // A narrow result fills its register.
    if (bits < 32)
      result = match[4] == "u" ? b.CreateZExt(result, i32) : b.CreateSExt(result, i32);
    out(0, result);
    return done();
  }
  if (opcode == "cvt.rn.f16.f32") {
    out(0, b.CreateFPTrunc(in(1, b.getFloatTy()), b.getHalfTy()));
    return done();
  }
  if (opcode == "cvt.f32.f16") {
    out(0, b.CreateFPExt(in(1, b.getHalfTy()), b.getFloatTy()));
    return done();
  }
  if (opcode == "cvt.rn.bf16.f32") {
    out(0, b.CreateFPTrunc(in(1, b.getFloatTy()), b.getBFloatTy()));
    return done();
  }
  if (opcode == "cvt.rn.f16x2.f32" || opcode == "cvt.rn.bf16x2.f32") {
    llvm::Value *pair = llvm::PoisonValue::get(llvm::FixedVectorType::get(b.getFloatTy(), 2));
    pair = b.CreateInsertElement(pair, in(2, b.getFloatTy()), uint64_t(0));
    pair = b.CreateInsertElement(pair, in(1, b.getFloatTy()), uint64_t(1));
    llvm::Type *half = opcode.contains("bf16") ? b.getBFloatTy() : b.getHalfTy();
    out(0, b.CreateFPTrunc(pair, llvm::FixedVectorType::get(half, 2)));
    return done();
  }
  // Arithmetic on floats and pairs of f16.
  if (llvm::Regex arithmetic("^(add|sub|mul|fma|min|max)(\\.rn)?(\\.ftz)?\\.(f16x2|f16|f32)$");
      arithmetic.match(opcode, &match)) {
    llvm::Type *type =
        match[4] == "f32" ? b.getFloatTy()
        : match[4] == "f16"
            ? b.getHalfTy()
            : static_cast<llvm::Type *>(llvm::FixedVectorType::get(b.getHalfTy(), 2));
    llvm::Value *x = in(1, type), *y = in(2, type);
    if (match[1] == "fma")
      out(0, b.CreateIntrinsic(llvm::Intrinsic::fma, {type}, {x, y, in(3, type)}));
    else
      out(0, match[1] == "add"   ? b.CreateFAdd(x, y)
             : match[1] == "sub" ? b.CreateFSub(x, y)
             : match[1] == "mul" ? b.CreateFMul(x, y)
             : match[1] == "min" ? b.CreateMinNum(x, y)
                                 : b.CreateMaxNum(x, y));
    return done();
  }
  if (llvm::Regex approximate("^(ex2|lg2|rcp|rsqrt|sqrt|sin|cos|tanh)\\.approx(\\.ftz)?\\.f32$");
      approximate.match(opcode, &match)) {
    unsigned which = llvm::StringSwitch<unsigned>(match[1])
                         .Case("ex2", LOWBIT_EMU_EX2)
                         .Case("lg2", LOWBIT_EMU_LG2)
                         .Case("rcp", LOWBIT_EMU_RCP)
                         .Case("rsqrt", LOWBIT_EMU_RSQRT)
                         .Case("sqrt", LOWBIT_EMU_SQRT)
                         .Case("sin", LOWBIT_EMU_SIN)
                         .Case("cos", LOWBIT_EMU_COS)
                         .Default(LOWBIT_EMU_TANH);
    out(0, call(b, LOWBIT_ENTRY(function), b.getFloatTy(),
                {in(1, b.getFloatTy()), b.getInt32(which)}));
    return done();
  }
  // Global memory with cache hints, which the emulator has no use for. A policy is one operand
  // more.
  if (llvm::Regex load(
          "^ld\\.global(\\.nc)?(\\.(L1|L2)::[A-Za-z0-9_:]+)*(\\.v([24]))?\\.[busf](8|16|32|64)$");
      load.match(opcode, &match)) {
    unsigned count = 1, bits = 0;
    match[5].getAsInteger(10, count);
    match[6].getAsInteger(10, bits);
    llvm::Value *address = in(count, nullptr);
    if (bad || !address->getType()->isPointerTy())
      return failure();
    call(b, LOWBIT_ENTRY(check), nothing,
         {address, b.getInt64(count * bits / 8), b.getInt32(LOWBIT_EMU_GLOBAL_READ)});
    for (unsigned i = 0; i < count; ++i)
      out(i, b.CreateAlignedLoad(b.getIntNTy(bits),
                                 b.CreateConstGEP1_64(b.getIntNTy(bits), address, i),
                                 llvm::Align(bits / 8)));
    return done();
  }
  if (llvm::Regex store(
          "^st\\.global(\\.(L1|L2)::[A-Za-z0-9_:]+)*(\\.v([24]))?\\.[busf](8|16|32|64)$");
      store.match(opcode, &match)) {
    unsigned count = 1, bits = 0;
    match[4].getAsInteger(10, count);
    match[5].getAsInteger(10, bits);
    llvm::Value *address = in(0, nullptr);
    if (bad || !address->getType()->isPointerTy())
      return failure();
    call(b, LOWBIT_ENTRY(check), nothing,
         {address, b.getInt64(count * bits / 8), b.getInt32(LOWBIT_EMU_GLOBAL_WRITE)});
    for (unsigned i = 0; i < count; ++i)
      b.CreateAlignedStore(in(1 + i, b.getIntNTy(bits)),
                           b.CreateConstGEP1_64(b.getIntNTy(bits), address, i),
                           llvm::Align(bits / 8));
    return done();
  }
  if (llvm::Regex red("^red(\\.relaxed)?(\\.gpu)?\\.(global|shared)(\\.cta)?\\.(add|min|max|and|or|"
                      "xor)\\.([usbf])32$");
      red.match(opcode, &match)) {
    bool real = match[6] == "f", isSigned = match[6] == "s";
    using RMW = llvm::AtomicRMWInst;
    RMW::BinOp op = llvm::StringSwitch<RMW::BinOp>(match[5])
                        .Case("add", real ? RMW::FAdd : RMW::Add)
                        .Case("min", isSigned ? RMW::Min : RMW::UMin)
                        .Case("max", isSigned ? RMW::Max : RMW::UMax)
                        .Case("and", RMW::And)
                        .Case("or", RMW::Or)
                        .Default(RMW::Xor);
    llvm::Value *address = in(0, nullptr);
    if (bad || !address->getType()->isPointerTy() || (real && op != RMW::FAdd))
      return failure();
    call(b, LOWBIT_ENTRY(check), nothing,
         {address, b.getInt64(4),
          b.getInt32(LOWBIT_EMU_ATOMIC_ACCESS |
                     (match[3] == "shared" ? LOWBIT_EMU_SHARED : LOWBIT_EMU_GLOBAL))});
    b.CreateAtomicRMW(op, address, in(1, real ? b.getFloatTy() : i32), llvm::Align(4),
                      llvm::AtomicOrdering::Monotonic);
    return done();
  }
  // cp.async [shared], [global], bytes {, valid bytes} {, policy}.
  if (llvm::Regex copy("^cp\\.async\\.(ca|cg)\\.shared\\.global((\\.L2::[A-Za-z0-9_]+)*)$");
      copy.match(opcode, &match)) {
    size_t plain = match[2].contains("cache_hint") ? 4 : 3;
    bool partial = statement.operands.size() > plain;
    call(b, LOWBIT_ENTRY(copy_async), nothing,
         {in(0, nullptr), in(1, nullptr), word(2), word(partial ? 3 : 2)});
    return done();
  }
  if (opcode == "cp.async.commit_group") {
    call(b, LOWBIT_ENTRY(commit_group), nothing, {});
    return done();
  }
  if (opcode == "cp.async.wait_group") {
    call(b, LOWBIT_ENTRY(wait_group), nothing, word(0));
    return done();
  }
  if (opcode == "bar.sync" || opcode == "barrier.sync" || opcode == "bar.arrive" ||
      opcode == "barrier.arrive") {
    bool counted = statement.operands.size() > 1;
    call(b, LOWBIT_ENTRY(barrier), nothing,
         {word(0), counted ? word(1) : b.getInt32(0), b.getInt32(opcode.ends_with("arrive"))});
    return done();
  }
  if (opcode == "membar.cta" || opcode == "fence.acq_rel.cta" || opcode == "fence.sc.cta") {
    call(b, LOWBIT_ENTRY(fence), nothing, b.getInt32(LOWBIT_EMU_FENCE_BLOCK));
    return done();
  }
  if (llvm::Regex("^(membar\\.(gl|sys)|fence\\.(acq_rel|sc)\\.(gpu|sys|cluster))$").match(opcode)) {
    call(b, LOWBIT_ENTRY(fence), nothing, b.getInt32(LOWBIT_EMU_FENCE_DEVICE));
    return done();
  }
  if (opcode.starts_with("fence.proxy.async")) {
    call(b, LOWBIT_ENTRY(fence), nothing, b.getInt32(LOWBIT_EMU_FENCE_ASYNC_PROXY));
    return done();
  }
  if (opcode == "griddepcontrol.wait") {
    call(b, LOWBIT_ENTRY(grid_dependency_wait), nothing, {});
    return done();
  }
  if (opcode.starts_with("createpolicy.")) {
    out(0, b.getInt64(0));
    return done();
  }
  if (opcode == "griddepcontrol.launch_dependents" || opcode.starts_with("prefetch.") ||
      opcode.starts_with("applypriority.") || opcode.starts_with("setmaxnreg.") ||
      opcode == "fence.mbarrier_init.release.cluster")
    return success();
  return failure();
}

void EmulatorRewriter::rewriteAssembly(llvm::CallInst *inst) {
  StringRef text = cast<llvm::InlineAsm>(inst->getCalledOperand())->getAsmString();
  if (rewriteHopperAssembly(inst, text))
    return;
  Builder b(inst);
  SmallVector<llvm::Value *> outputs(numOutputs(inst), nullptr);
  SmallVector<StringRef> statements;
  text.split(statements, ';');
  for (StringRef statement : statements) {
    if (statement.trim(" \t\n{}").empty())
      continue;
    if (failed(rewriteStatement(b, statement, inst, outputs)))
      return unknown(inst, "the inline PTX '" + statement.trim(" \t\n") + "'");
  }
  if (llvm::is_contained(outputs, nullptr))
    return unknown(inst, "the inline PTX '" + text.trim() + "', which leaves a result open");
  if (isa<llvm::StructType>(inst->getType())) {
    llvm::Value *all = llvm::PoisonValue::get(inst->getType());
    for (auto [i, value] : llvm::enumerate(outputs))
      all = b.CreateInsertValue(all, value, i);
    inst->replaceAllUsesWith(all);
  } else if (!outputs.empty()) {
    inst->replaceAllUsesWith(outputs[0]);
  }
  inst->eraseFromParent();
}
