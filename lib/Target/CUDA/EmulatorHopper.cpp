//===- EmulatorHopper.cpp - mbarrier, bulk copies and wgmma to calls of the emulator ---*- C++
//-*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "EmulatorRewriter.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/Instructions.h"
#include "llvm/Support/Regex.h"

using namespace lowbit;
using namespace lowbit::cuda;

llvm::Value *EmulatorRewriter::coordinates(Builder &b, ArrayRef<llvm::Value *> at) {
  llvm::Value *memory = scratch(b.GetInsertBlock()->getParent(), 16, 0);
  for (auto [i, coordinate] : llvm::enumerate(at))
    b.CreateStore(coordinate, b.CreateConstGEP1_64(b.getInt32Ty(), memory, i));
  return memory;
}

static bool isFalse(llvm::Value *flag) {
  auto *constant = dyn_cast<llvm::ConstantInt>(flag);
  return constant && constant->isZero();
}

llvm::Value *EmulatorRewriter::hopper(Builder &b, StringRef name, llvm::CallInst *inst,
                                      ArrayRef<llvm::Value *> args) {
  llvm::Type *nothing = b.getVoidTy(), *i32 = b.getInt32Ty(), *i64 = b.getInt64Ty();
  llvm::Value *one = b.getInt32(1), *zero = b.getInt32(0);
  // Other blocks of a cluster do not exist here: the same address is this block's.
  StringRef place = name;
  for (StringRef suffix : {".scope.cta.space.cta", ".scope.cluster.space.cta", ".shared"})
    if (place.consume_back(suffix))
      break;
  if (place == "mbarrier.init")
    return call(b, LOWBIT_ENTRY(object_init), nothing, args);
  if (place == "mbarrier.inval")
    return call(b, LOWBIT_ENTRY(object_invalidate), nothing, args);
  if (place == "mbarrier.arrive")
    return call(b, LOWBIT_ENTRY(object_arrive), i64,
                {args[0], args.size() > 1 ? args[1] : one, zero});
  if (place == "mbarrier.arrive.expect.tx")
    return call(b, LOWBIT_ENTRY(object_arrive), i64, {args[0], one, args[1]});
  if (place == "mbarrier.expect.tx")
    return call(b, LOWBIT_ENTRY(object_expect), nothing, {args[0], args[1]});
  llvm::Regex wait("^mbarrier\\.(test|try)\\.wait(\\.parity)?(\\.tl)?$");
  SmallVector<StringRef> match;
  if (wait.match(place, &match)) {
    unsigned kind = (match[1] == "test" ? LOWBIT_EMU_WAIT_TEST : 0) |
                    (match[2].empty() ? 0 : LOWBIT_EMU_WAIT_PARITY);
    llvm::Value *phase = b.CreateZExt(args[1], i64);
    return b.CreateIsNotNull(
        call(b, LOWBIT_ENTRY(object_wait), i32, {args[0], phase, b.getInt32(kind)}));
  }
  if (name == "cp.async.bulk.global.to.shared.cta")
    return call(b, LOWBIT_ENTRY(bulk_load), nothing, {args[0], args[2], args[3], args[1]});
  if (name == "cp.async.bulk.global.to.shared.cluster" && isFalse(args[6]))
    return call(b, LOWBIT_ENTRY(bulk_load), nothing, {args[0], args[2], args[3], args[1]});
  if (name == "cp.async.bulk.shared.cta.to.global")
    return call(b, LOWBIT_ENTRY(bulk_store), nothing, {args[0], args[1], args[2]});
  llvm::Regex tensor("^cp\\.async\\.bulk\\.tensor\\.(g2s|g2s\\.cta|s2g)\\.tile\\.([1-5])d$");
  if (tensor.match(name, &match)) {
    unsigned rank = match[2][0] - '0';
    if (match[1] == "s2g")
      return call(b, LOWBIT_ENTRY(tensor_store), nothing,
                  {coordinates(b, args.slice(2, rank)), args[1], args[0], b.getInt32(rank)});
    // Copies to several blocks at once are not supported.
    if (match[1] == "g2s" && !isFalse(args[3 + rank + 2]))
      return nullptr;
    return call(b, LOWBIT_ENTRY(tensor_load), nothing,
                {args[0], args[2], coordinates(b, args.slice(3, rank)), b.getInt32(rank), args[1]});
  }
  if (name == "cp.async.bulk.commit.group")
    return call(b, LOWBIT_ENTRY(bulk_commit), nothing, {});
  if (name == "cp.async.bulk.wait.group" || name == "cp.async.bulk.wait.group.read")
    return call(b, LOWBIT_ENTRY(bulk_wait), nothing,
                {args[0], b.getInt32(name.ends_with(".read"))});
  if (name == "wgmma.fence.sync.aligned")
    return call(b, LOWBIT_ENTRY(warpgroup_fence), nothing, {});
  if (name == "wgmma.commit_group.sync.aligned")
    return call(b, LOWBIT_ENTRY(warpgroup_commit), nothing, {});
  if (name == "wgmma.wait_group.sync.aligned")
    return call(b, LOWBIT_ENTRY(warpgroup_wait), nothing, b.CreateTrunc(args[0], i32));
  return nullptr;
}

//===----------------------------------------------------------------------===//
// wgmma.mma_async as inline assembly
//===----------------------------------------------------------------------===//

namespace {
/// The text of one wgmma: `$` numbers and immediates.
struct WarpgroupText {
  unsigned shape = 0;
  SmallVector<StringRef> sums, a; // a: one descriptor or four registers
  StringRef b, scale;
  SmallVector<StringRef> immediates;
};
} // namespace

static bool parseWarpgroup(StringRef text, WarpgroupText &out) {
  llvm::Regex opcode("wgmma\\.mma_async\\.sync\\.aligned\\.m64n([0-9]+)k([0-9]+)\\.(s32|f32)\\."
                     "(s8|u8|f16|bf16)\\.(s8|u8|f16|bf16)[ \t\n]");
  SmallVector<StringRef> match;
  if (!opcode.match(text, &match))
    return false;
  unsigned n = 0;
  match[1].getAsInteger(10, n);
  bool bytes = match[3] == "s32";
  if (n < 8 || n > 256 || n % 8 || match[2] != (bytes ? "32" : "16") ||
      bytes != match[4].ends_with("8") || bytes != match[5].ends_with("8") ||
      (!bytes && match[4] != match[5]))
    return false;
  out.shape = n | (bytes               ? LOWBIT_EMU_WGMMA_S8
                   : match[4] == "f16" ? LOWBIT_EMU_WGMMA_F16
                                       : LOWBIT_EMU_WGMMA_BF16);
  if (match[4] == "u8")
    out.shape |= LOWBIT_EMU_WGMMA_UNSIGNED_A;
  if (match[5] == "u8")
    out.shape |= LOWBIT_EMU_WGMMA_UNSIGNED_B;
  // {sums}, a or {a}, b, scale {, immediates};
  StringRef rest = text.substr(match[0].end() - text.begin()).split(';').first;
  auto list = [](StringRef inside, SmallVector<StringRef> &to) {
    SmallVector<StringRef> pieces;
    inside.split(pieces, ',');
    for (StringRef piece : pieces)
      to.push_back(piece.trim());
  };
  auto braces = [&](SmallVector<StringRef> &to) {
    size_t open = rest.find('{'), close = rest.find('}');
    if (open == StringRef::npos || close == StringRef::npos ||
        !rest.substr(0, open).trim(" \t\n,").empty())
      return false;
    list(rest.slice(open + 1, close), to);
    rest = rest.substr(close + 1);
    return true;
  };
  if (!braces(out.sums))
    return false;
  bool registers = braces(out.a);
  SmallVector<StringRef> others;
  list(rest.trim(" \t\n,"), others);
  if (!registers) {
    out.a.push_back(others.front());
    others.erase(others.begin());
  } else {
    out.shape |= LOWBIT_EMU_WGMMA_A_REGISTERS;
  }
  if (others.size() < 2)
    return false;
  out.b = others[0];
  out.scale = others[1];
  out.immediates.append(others.begin() + 2, others.end());
  return out.sums.size() == n / 2 && out.a.size() == (registers ? 4u : 1u);
}

bool EmulatorRewriter::rewriteHopperAssembly(llvm::CallInst *inst, StringRef text) {
  Builder b(inst);
  llvm::Type *i32 = b.getInt32Ty(), *i64 = b.getInt64Ty();
  // The loop that nvvm.mbarrier.try_wait.parity becomes: it ends when the phase has.
  llvm::Regex wait("^[{ \t\n]*\\.reg \\.pred[ \t]+P1;[ \t\n]*LAB_WAIT:[ \t\n]*"
                   "mbarrier\\.try_wait\\.parity(\\.shared)?\\.b64 P1, \\[\\$0\\], \\$1, \\$2;"
                   "[ \t\n]*@P1 bra\\.uni DONE;[ \t\n]*bra\\.uni[ \t]+LAB_WAIT;[ \t\n]*DONE:"
                   "[ \t\n}]*$");
  if (wait.match(text)) {
    call(b, LOWBIT_ENTRY(object_wait), i32,
         {inst->getArgOperand(0), b.CreateZExt(inst->getArgOperand(1), i64),
          b.getInt32(LOWBIT_EMU_WAIT_PARITY)});
    inst->eraseFromParent();
    return true;
  }
  WarpgroupText parsed;
  if (!text.contains("wgmma.mma_async") || !parseWarpgroup(text, parsed))
    return false;
  auto *type = dyn_cast<llvm::StructType>(inst->getType());
  unsigned outputs = parsed.sums.size();
  if (!type || type->getNumElements() != outputs)
    return false;
  bool bad = false;
  auto number = [](StringRef name) {
    unsigned result = ~0u;
    return name.consume_front("$") && !name.getAsInteger(10, result) ? result : ~0u;
  };
  auto argument = [&](StringRef name) -> llvm::Value * {
    unsigned index = number(name) - outputs;
    if (number(name) == ~0u || index >= inst->arg_size()) {
      bad = true;
      return llvm::PoisonValue::get(i32);
    }
    return inst->getArgOperand(index);
  };
  auto immediate = [&](unsigned i) -> int64_t {
    int64_t value = 0;
    if (i >= parsed.immediates.size() || !parsed.immediates[i].getAsInteger(0, value))
      return i < parsed.immediates.size() ? value : i < 2;
    if (auto *constant = dyn_cast<llvm::ConstantInt>(argument(parsed.immediates[i])))
      return constant->getSExtValue();
    bad = true;
    return 0;
  };
  unsigned shape = parsed.shape;
  shape |= immediate(0) < 0 ? LOWBIT_EMU_WGMMA_NEGATED_A : 0;
  shape |= immediate(1) < 0 ? LOWBIT_EMU_WGMMA_NEGATED_B : 0;
  // With A in registers only B can be transposed.
  bool registers = shape & LOWBIT_EMU_WGMMA_A_REGISTERS;
  shape |= !registers && immediate(2) ? LOWBIT_EMU_WGMMA_TRANSPOSED_A : 0;
  shape |= immediate(registers ? 2 : 3) ? LOWBIT_EMU_WGMMA_TRANSPOSED_B : 0;
  // The scale is a predicate that "setp.ne.b32 p, $n, 0" has made, or `1`.
  llvm::Value *accumulates = b.getTrue();
  llvm::Regex predicate("setp\\.ne\\.b32[ \t]+" + parsed.scale.str() +
                        ",[ \t]*(\\$[0-9]+),[ \t]*0;");
  SmallVector<StringRef> match;
  if (predicate.match(text, &match))
    accumulates = b.CreateIsNotNull(argument(match[1]));
  else if (parsed.scale != "1" && parsed.scale != "true")
    bad = true;
  llvm::Value *memory =
      scratch(inst->getFunction(), static_cast<unsigned>(llvm::alignTo(outputs, 16)), 1);
  // Tied to the results: the first arguments.
  for (unsigned i = 0; i < outputs; ++i)
    handsOn.insert(b.CreateStore(inst->getArgOperand(i), b.CreateConstGEP1_64(i32, memory, i)));
  llvm::Value *a = llvm::ConstantPointerNull::get(b.getPtrTy()), *descriptor = b.getInt64(0);
  if (registers) {
    a = scratch(inst->getFunction(), 16, 0);
    for (unsigned i = 0; i < 4; ++i)
      b.CreateStore(argument(parsed.a[i]), b.CreateConstGEP1_64(i32, a, i));
  } else {
    descriptor = argument(parsed.a[0]);
  }
  llvm::Value *flags = b.CreateSelect(accumulates, b.getInt32(shape | LOWBIT_EMU_WGMMA_ACCUMULATES),
                                      b.getInt32(shape));
  llvm::Value *ticket = call(b, LOWBIT_ENTRY(warpgroup_multiply), i32,
                             {memory, a, descriptor, argument(parsed.b), flags});
  if (bad) {
    unknown(inst, "this form of wgmma.mma_async");
    return true;
  }
  llvm::Value *all = llvm::PoisonValue::get(type);
  for (unsigned i = 0; i < outputs; ++i)
    all = b.CreateInsertValue(
        all, b.CreateLoad(type->getElementType(i), b.CreateConstGEP1_64(i32, memory, i)), i);
  inst->replaceAllUsesWith(all);
  inst->eraseFromParent();
  sums.push_back({all, ticket});
  return true;
}

void EmulatorRewriter::guardSums() {
  // Every value that holds sums, with its ticket; where paths meet, tickets meet too.
  llvm::DenseMap<llvm::Value *, llvm::Value *> tickets;
  SmallVector<llvm::Value *> work;
  SmallVector<std::pair<llvm::PHINode *, llvm::PHINode *>> phis;
  auto add = [&](llvm::Value *value, llvm::Value *ticket) {
    if (tickets.try_emplace(value, ticket).second)
      work.push_back(value);
  };
  for (auto [value, ticket] : sums)
    add(value, ticket);
  SmallVector<std::pair<llvm::Instruction *, llvm::Value *>> uses;
  while (!work.empty()) {
    llvm::Value *value = work.pop_back_val(), *ticket = tickets[value];
    for (llvm::User *user : value->users()) {
      auto *inst = dyn_cast<llvm::Instruction>(user);
      if (!inst || handsOn.contains(inst))
        continue;
      if (isa<llvm::ExtractValueInst, llvm::InsertValueInst>(inst)) {
        add(inst, ticket);
      } else if (auto *phi = dyn_cast<llvm::PHINode>(inst)) {
        if (tickets.contains(phi))
          continue;
        Builder b(phi);
        llvm::PHINode *both = b.CreatePHI(b.getInt32Ty(), phi->getNumIncomingValues());
        phis.push_back({phi, both});
        add(phi, both);
      } else {
        uses.push_back({inst, ticket});
      }
    }
  }
  for (auto [phi, both] : phis)
    for (unsigned i = 0; i < phi->getNumIncomingValues(); ++i) {
      llvm::Value *ticket = tickets.lookup(phi->getIncomingValue(i));
      both->addIncoming(ticket ? ticket : llvm::ConstantInt::get(both->getType(), 0),
                        phi->getIncomingBlock(i));
    }
  llvm::DenseSet<std::pair<llvm::Instruction *, llvm::Value *>> guarded;
  for (auto [inst, ticket] : uses)
    if (guarded.insert({inst, ticket}).second) {
      Builder b(inst);
      call(b, LOWBIT_ENTRY(warpgroup_use), b.getVoidTy(), ticket);
    }
}
