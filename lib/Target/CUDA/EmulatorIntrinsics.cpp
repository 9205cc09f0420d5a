//===- EmulatorIntrinsics.cpp - NVVM intrinsics to calls of the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "EmulatorRewriter.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/IR/Instructions.h"
#include "llvm/Support/Regex.h"

using namespace lowbit;
using namespace lowbit::cuda;

using Number = std::optional<unsigned>;

static Number specialRegister(StringRef name) {
  return llvm::StringSwitch<Number>(name)
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

static Number approximation(StringRef name) {
  return llvm::StringSwitch<Number>(name)
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

/// What replaces an instruction that does nothing here.
llvm::Value *EmulatorRewriter::none(Builder &b) { return b.getInt32(0); }

llvm::Value *EmulatorRewriter::synchronize(Builder &b, StringRef name,
                                           ArrayRef<llvm::Value *> args) {
  llvm::Type *nothing = b.getVoidTy();
  llvm::Value *zero = b.getInt32(0);
  if (name == "cp.async.commit.group")
    return call(b, LOWBIT_ENTRY(commit_group), nothing, {});
  if (name == "cp.async.wait.group")
    return call(b, LOWBIT_ENTRY(wait_group), nothing, args);
  if (name == "cp.async.wait.all") {
    call(b, LOWBIT_ENTRY(commit_group), nothing, {});
    return call(b, LOWBIT_ENTRY(wait_group), nothing, zero);
  }
  if (name == "barrier.cta.sync.aligned.all" || name == "barrier.cta.sync.all")
    return call(b, LOWBIT_ENTRY(barrier), nothing, {args[0], zero, zero});
  if (name == "barrier.cta.sync.aligned.count" || name == "barrier.cta.sync.count")
    return call(b, LOWBIT_ENTRY(barrier), nothing, {args[0], args[1], zero});
  if (name == "barrier.cta.arrive.aligned.count" || name == "barrier.cta.arrive.count")
    return call(b, LOWBIT_ENTRY(barrier), nothing, {args[0], args[1], b.getInt32(1)});
  if (StringRef reduction = name; reduction.consume_front("barrier.cta.red.")) {
    Number kind = llvm::StringSwitch<Number>(reduction.split('.').first)
                      .Case("popc", LOWBIT_EMU_BARRIER_POPC)
                      .Case("and", LOWBIT_EMU_BARRIER_AND)
                      .Case("or", LOWBIT_EMU_BARRIER_OR)
                      .Default(std::nullopt);
    bool counted = reduction.ends_with(".count");
    llvm::Value *result = call(b, LOWBIT_ENTRY(barrier_reduce), b.getInt32Ty(),
                               {args[0], counted ? args[1] : zero,
                                b.CreateZExt(args.back(), b.getInt32Ty()), b.getInt32(*kind)});
    return *kind == LOWBIT_EMU_BARRIER_POPC ? result : b.CreateIsNotNull(result);
  }
  if (name == "bar.warp.sync")
    return call(b, LOWBIT_ENTRY(warp_barrier), nothing, args);
  if (name == "membar.cta")
    return call(b, LOWBIT_ENTRY(fence), nothing, b.getInt32(LOWBIT_EMU_FENCE_BLOCK));
  if (name == "membar.gl" || name == "membar.sys" || name == "fence.sc.cluster")
    return call(b, LOWBIT_ENTRY(fence), nothing, b.getInt32(LOWBIT_EMU_FENCE_DEVICE));
  if (name == "fence.proxy.async" || name == "fence.proxy.async.shared_cta" ||
      name == "fence.proxy.async.shared_cluster" || name == "fence.proxy.async.global")
    return call(b, LOWBIT_ENTRY(fence), nothing, b.getInt32(LOWBIT_EMU_FENCE_ASYNC_PROXY));
  if (name == "griddepcontrol.wait")
    return call(b, LOWBIT_ENTRY(grid_dependency_wait), nothing, {});
  // Hints, and what only matters for what this device does not do: fence.mbarrier_init orders for
  // other blocks of a cluster.
  if (name == "griddepcontrol.launch.dependents" || name.starts_with("setmaxnreg.") ||
      name == "fence.mbarrier_init.release.cluster" || name == "nanosleep" ||
      name.starts_with("prefetch") || name.starts_with("applypriority") ||
      name.starts_with("cp.async.bulk.prefetch") ||
      name.starts_with("cp.async.bulk.tensor.prefetch"))
    return none(b);
  return nullptr;
}

llvm::Value *EmulatorRewriter::exchange(Builder &b, StringRef name, llvm::CallInst *inst,
                                        ArrayRef<llvm::Value *> args) {
  llvm::Type *i32 = b.getInt32Ty();
  if (StringRef rest = name; rest.consume_front("shfl.sync.")) {
    Number kind = llvm::StringSwitch<Number>(rest.split('.').first)
                      .Case("idx", LOWBIT_EMU_SHUFFLE_IDX)
                      .Case("up", LOWBIT_EMU_SHUFFLE_UP)
                      .Case("down", LOWBIT_EMU_SHUFFLE_DOWN)
                      .Case("bfly", LOWBIT_EMU_SHUFFLE_BFLY)
                      .Default(std::nullopt);
    if (!kind)
      return nullptr;
    auto *pair = dyn_cast<llvm::StructType>(inst->getType());
    llvm::Value *within =
        pair ? scratch(inst->getFunction(), 16, 1)
             : static_cast<llvm::Value *>(llvm::ConstantPointerNull::get(b.getPtrTy()));
    llvm::Value *result =
        call(b, LOWBIT_ENTRY(shuffle), i32,
             {args[0], b.CreateBitCast(args[1], i32), args[2], args[3], b.getInt32(*kind), within});
    if (!pair)
      return b.CreateBitCast(result, inst->getType());
    llvm::Value *both = llvm::PoisonValue::get(pair);
    both = b.CreateInsertValue(both, b.CreateBitCast(result, pair->getElementType(0)), 0);
    return b.CreateInsertValue(both, b.CreateIsNotNull(b.CreateLoad(i32, within)), 1);
  }
  if (StringRef rest = name; rest.consume_front("vote.")) {
    Number kind = llvm::StringSwitch<Number>(rest)
                      .Case("ballot.sync", LOWBIT_EMU_VOTE_BALLOT)
                      .Case("all.sync", LOWBIT_EMU_VOTE_ALL)
                      .Case("any.sync", LOWBIT_EMU_VOTE_ANY)
                      .Case("uni.sync", LOWBIT_EMU_VOTE_UNIFORM)
                      .Default(std::nullopt);
    if (!kind)
      return nullptr;
    llvm::Value *result =
        call(b, LOWBIT_ENTRY(vote), i32, {args[0], b.CreateZExt(args[1], i32), b.getInt32(*kind)});
    return *kind == LOWBIT_EMU_VOTE_BALLOT ? result : b.CreateIsNotNull(result);
  }
  if (name.starts_with("match.any.sync.i") || name.starts_with("match.all.sync.i")) {
    bool all = name.starts_with("match.all");
    llvm::Value *result = call(b, LOWBIT_ENTRY(match), i32,
                               {args[0], b.CreateZExt(args[1], b.getInt64Ty()), b.getInt32(all)});
    if (!all)
      return result;
    llvm::Value *both = llvm::PoisonValue::get(inst->getType());
    both = b.CreateInsertValue(both, result, 0);
    return b.CreateInsertValue(both, b.CreateIsNotNull(result), 1);
  }
  if (StringRef rest = name; rest.consume_front("redux.sync.")) {
    Number kind = llvm::StringSwitch<Number>(rest)
                      .Case("add", LOWBIT_EMU_REDUCE_ADD)
                      .Case("min", LOWBIT_EMU_REDUCE_MIN)
                      .Case("max", LOWBIT_EMU_REDUCE_MAX)
                      .Case("umin", LOWBIT_EMU_REDUCE_UMIN)
                      .Case("umax", LOWBIT_EMU_REDUCE_UMAX)
                      .Case("and", LOWBIT_EMU_REDUCE_AND)
                      .Case("or", LOWBIT_EMU_REDUCE_OR)
                      .Case("xor", LOWBIT_EMU_REDUCE_XOR)
                      .Default(std::nullopt);
    if (!kind)
      return nullptr;
    // The mask comes last here.
    return call(b, LOWBIT_ENTRY(reduce), i32, {args[1], args[0], b.getInt32(*kind)});
  }
  if (name == "activemask")
    return call(b, LOWBIT_ENTRY(active_mask), i32, {});
  if (name == "elect.sync") {
    llvm::Value *leader = scratch(inst->getFunction(), 16, 1);
    llvm::Value *chosen = call(b, LOWBIT_ENTRY(elect), i32, {args[0], leader});
    llvm::Value *both = llvm::PoisonValue::get(inst->getType());
    both = b.CreateInsertValue(both, b.CreateLoad(i32, leader), 0);
    return b.CreateInsertValue(both, b.CreateIsNotNull(chosen), 1);
  }
  return nullptr;
}

llvm::Value *EmulatorRewriter::multiply(Builder &b, StringRef name, llvm::CallInst *inst,
                                        ArrayRef<llvm::Value *> args) {
  llvm::Regex mmaInt8("^mma\\.m16n8k32\\.row\\.col\\.(s8|u8)(\\.(s8|u8))?$");
  llvm::Regex load("^ldmatrix\\.sync\\.aligned\\.m8n8\\.x([124])(\\.trans)?\\.b16");
  llvm::Regex store("^stmatrix\\.sync\\.aligned\\.m8n8\\.x([124])(\\.trans)?\\.b16");
  SmallVector<StringRef> match;
  if (load.match(name, &match))
    return callOnWords(b, LOWBIT_ENTRY(load_matrix), inst->getType(), {},
                       {args[0], b.getInt32(match[1][0] - '0'), b.getInt32(!match[2].empty())});
  if (store.match(name, &match))
    return callOnWords(b, LOWBIT_ENTRY(store_matrix), b.getVoidTy(), args.drop_front(),
                       {args[0], b.getInt32(match[1][0] - '0'), b.getInt32(!match[2].empty())});
  if (mmaInt8.match(name, &match))
    return callOnWords(b, LOWBIT_ENTRY(mma_int8), inst->getType(), args,
                       b.getInt32(signsOf(match[1], match[3].empty() ? match[1] : match[3])));
  Number kind = llvm::StringSwitch<Number>(name)
                    .Case("mma.m16n8k16.row.col.f32.f32", 0)
                    .Case("mma.m16n8k16.row.col.f16.f16", LOWBIT_EMU_MMA_F16_SUM)
                    .Case("mma.m16n8k16.row.col.bf16", LOWBIT_EMU_MMA_BF16)
                    .Case("mma.m16n8k8.row.col.f32.f32", LOWBIT_EMU_MMA_K8)
                    .Case("mma.m16n8k8.row.col.f16.f16", LOWBIT_EMU_MMA_K8 | LOWBIT_EMU_MMA_F16_SUM)
                    .Case("mma.m16n8k8.row.col.bf16", LOWBIT_EMU_MMA_K8 | LOWBIT_EMU_MMA_BF16)
                    .Default(std::nullopt);
  if (kind)
    return callOnWords(b, LOWBIT_ENTRY(mma_half), inst->getType(), args, b.getInt32(*kind));
  return nullptr;
}

llvm::Value *EmulatorRewriter::toInteger(Builder &b, llvm::Value *real, unsigned rounding,
                                         unsigned bits, bool isUnsigned) {
  if (!real->getType()->isDoubleTy())
    real = b.CreateFPExt(real, b.getDoubleTy());
  llvm::Value *result =
      call(b, LOWBIT_ENTRY(round_to_int), b.getInt64Ty(),
           {real, b.getInt32(rounding), b.getInt32(bits), b.getInt32(isUnsigned)});
  return bits < 64 ? b.CreateTrunc(result, b.getIntNTy(bits)) : result;
}

llvm::Value *EmulatorRewriter::compute(Builder &b, StringRef name, llvm::CallInst *inst,
                                       ArrayRef<llvm::Value *> args) {
  llvm::Type *i32 = b.getInt32Ty(), *type = inst->getType();
  if (name == "prmt")
    return call(b, LOWBIT_ENTRY(permute), i32, args);
  if (StringRef signs = name; signs.consume_front("idp4a.")) {
    auto [a, c] = signs.split('.');
    return call(b, LOWBIT_ENTRY(dot4), i32, {args[0], args[1], args[2], b.getInt32(signsOf(a, c))});
  }
  // {f,d}2{i,ui,ll,ull}.{rn,rm,rp,rz}[.ftz]
  llvm::Regex convert("^[fd]2(u?)(i|ll)\\.(rn|rm|rp|rz)(\\.ftz)?$");
  llvm::Regex convertLong("^[fd]2ull\\.(rn|rm|rp|rz)(\\.ftz)?$");
  auto rounding = [](StringRef text) {
    return llvm::StringSwitch<unsigned>(text)
        .Case("rn", LOWBIT_EMU_ROUND_NEAREST_EVEN)
        .Case("rm", LOWBIT_EMU_ROUND_DOWN)
        .Case("rp", LOWBIT_EMU_ROUND_UP)
        .Default(LOWBIT_EMU_ROUND_ZERO);
  };
  SmallVector<StringRef> match;
  if (convert.match(name, &match))
    return toInteger(b, args[0], rounding(match[3]), match[2] == "i" ? 32 : 64, match[1] == "u");
  if (convertLong.match(name, &match))
    return toInteger(b, args[0], rounding(match[1]), 64, true);
  if (name == "f2bf16.rn")
    return b.CreateFPTrunc(args[0], type);
  if (name == "ff2bf16x2.rn" || name == "ff2f16x2.rn") {
    // The first operand is the upper half.
    llvm::Value *pair = llvm::PoisonValue::get(llvm::FixedVectorType::get(b.getFloatTy(), 2));
    pair = b.CreateInsertElement(pair, args[1], uint64_t(0));
    pair = b.CreateInsertElement(pair, args[0], uint64_t(1));
    return b.CreateFPTrunc(pair, type);
  }
  llvm::Type *scalar = type->getScalarType();
  bool real = scalar->isFloatTy() || scalar->isHalfTy() || scalar->isDoubleTy();
  // fma.rn[.ftz].{f,d,f16,f16x2}, with .relu clamping below at 0.
  if (real && name.starts_with("fma.rn.") && !name.contains("sat") && !name.contains("oob")) {
    llvm::Value *result =
        b.CreateIntrinsic(llvm::Intrinsic::fma, {type}, {args[0], args[1], args[2]});
    return name.contains("relu") ? b.CreateMaxNum(result, llvm::Constant::getNullValue(type))
                                 : result;
  }
  llvm::Regex extreme("^f(min|max)(\\.ftz)?(\\.nan)?\\.(f|d|f16|f16x2)$");
  if (real && extreme.match(name, &match)) {
    bool max = match[1] == "max";
    if (!match[3].empty())
      return max ? b.CreateMaximum(args[0], args[1]) : b.CreateMinimum(args[0], args[1]);
    return max ? b.CreateMaxNum(args[0], args[1]) : b.CreateMinNum(args[0], args[1]);
  }
  llvm::Regex plain("^(add|mul|div)\\.(rn|approx)(\\.ftz)?\\.(f|d)$");
  if (real && plain.match(name, &match))
    return match[1] == "add"   ? b.CreateFAdd(args[0], args[1])
           : match[1] == "mul" ? b.CreateFMul(args[0], args[1])
                               : b.CreateFDiv(args[0], args[1]);
  if (name == "fabs.f" || name == "fabs.ftz.f" || name == "fabs" || name == "fabs.ftz")
    return b.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, args[0]);
  if (auto which = approximation(name.split('.').first);
      which && type->isFloatTy() && args.size() == 1)
    return call(b, LOWBIT_ENTRY(function), b.getFloatTy(), {args[0], b.getInt32(*which)});
  return nullptr;
}

void EmulatorRewriter::rewriteIntrinsic(llvm::CallInst *inst) {
  StringRef name = inst->getCalledFunction()->getName();
  if (name == "llvm.trap") {
    Builder b(inst);
    call(b, LOWBIT_ENTRY(trap), b.getVoidTy(), {});
    inst->eraseFromParent();
    return;
  }
  if (!name.consume_front("llvm.nvvm."))
    return; // Every target has the others.
  Builder b(inst);
  SmallVector<llvm::Value *> args(inst->args());
  llvm::Value *result = nullptr;
  llvm::Regex copy("^cp\\.async\\.(ca|cg)\\.shared\\.global\\.([0-9]+)(\\.s)?$");
  SmallVector<StringRef> match;
  if (StringRef special = name; special.consume_front("read.ptx.sreg.")) {
    if (auto which = specialRegister(special))
      result = call(b, LOWBIT_ENTRY(special_register), b.getInt32Ty(), b.getInt32(*which));
  } else if (copy.match(name, &match)) {
    unsigned bytes = 0;
    match[2].getAsInteger(10, bytes);
    result =
        call(b, LOWBIT_ENTRY(copy_async), b.getVoidTy(),
             {args[0], args[1], b.getInt32(bytes), match[3].empty() ? b.getInt32(bytes) : args[2]});
  }
  if (!result)
    result = synchronize(b, name, args);
  if (!result)
    result = exchange(b, name, inst, args);
  if (!result)
    result = multiply(b, name, inst, args);
  if (!result)
    result = compute(b, name, inst, args);
  if (!result)
    result = hopper(b, name, inst, args);
  if (!result)
    return unknown(inst, inst->getCalledFunction()->getName());
  if (!inst->getType()->isVoidTy())
    inst->replaceAllUsesWith(result);
  inst->eraseFromParent();
}
