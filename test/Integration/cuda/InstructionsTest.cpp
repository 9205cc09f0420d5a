//===- InstructionsTest.cpp - device instructions, compiled and emulated ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "EmulatedKernel.h"
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>

using namespace lowbit::test;

static std::vector<uint32_t> words(size_t count, uint32_t (*value)(uint32_t)) {
  std::vector<uint32_t> result;
  for (uint32_t i = 0; i < count; ++i)
    result.push_back(value(i));
  return result;
}

/// What %r is for each of 32 lanes whose %x is x(lane).
static std::vector<uint32_t> perLane(const std::string &body, uint32_t (*x)(uint32_t)) {
  EmulatedKernel kernel(body, /*perThread=*/true);
  std::vector<uint32_t> in = words(32, x), out(32, 0xdeadbeef);
  EXPECT_EQ(kernel.run({readable(in), writable(out)}), "");
  return out;
}

static std::string expectError(const std::string &error, const std::string &part) {
  EXPECT_NE(error.find(part), std::string::npos) << error;
  return error;
}

static uint32_t bitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

TEST(WarpInstructions, Votes) {
  auto vote = [](const std::string &kind, const std::string &result) {
    return "    %odd = llvm.trunc %x : i32 to i1\n    %v = llvm.call_intrinsic "
           "\"llvm.nvvm.vote." +
           kind + ".sync\"(%all, %odd) : (i32, i1) -> " + result + "\n" +
           (result == "i1" ? "    %r = llvm.zext %v : i1 to i32\n"
                           : "    %r = llvm.add %v, %c0 : i32\n");
  };
  auto third = [](uint32_t lane) { return uint32_t(lane % 3 == 0); };
  auto ones = [](uint32_t) { return 1u; };
  uint32_t ballot = 0;
  for (uint32_t i = 0; i < 32; i += 3)
    ballot |= 1u << i;
  EXPECT_EQ(perLane(vote("ballot", "i32"), third), std::vector<uint32_t>(32, ballot));
  EXPECT_EQ(perLane(vote("all", "i1"), third), std::vector<uint32_t>(32, 0));
  EXPECT_EQ(perLane(vote("any", "i1"), third), std::vector<uint32_t>(32, 1));
  EXPECT_EQ(perLane(vote("all", "i1"), ones), std::vector<uint32_t>(32, 1));
  EXPECT_EQ(perLane(vote("uni", "i1"), third), std::vector<uint32_t>(32, 0));
}

TEST(WarpInstructions, Reductions) {
  auto redux = [](const std::string &kind) {
    return "    %r = llvm.call_intrinsic \"llvm.nvvm.redux.sync." + kind +
           "\"(%x, %all) : (i32, i32) -> i32\n";
  };
  auto x = [](uint32_t lane) { return lane * 7 - 100; };
  EXPECT_EQ(perLane(redux("add"), x)[3], uint32_t(31 * 16 * 7 - 3200));
  EXPECT_EQ(int32_t(perLane(redux("min"), x)[0]), -100);
  EXPECT_EQ(int32_t(perLane(redux("max"), x)[31]), 117);
  EXPECT_EQ(perLane(redux("umax"), x)[31], uint32_t(-2));
}

TEST(WarpInstructions, MatchElectAndMask) {
  auto match = perLane("    %r = llvm.call_intrinsic \"llvm.nvvm.match.any.sync.i32\"(%all, %x) "
                       ": (i32, i32) -> i32\n",
                       [](uint32_t lane) { return lane / 8; });
  for (uint32_t lane = 0; lane < 32; ++lane)
    EXPECT_EQ(match[lane], 0xffu << (lane / 8 * 8));
  auto elected = perLane("    %s = llvm.call_intrinsic \"llvm.nvvm.elect.sync\"(%all) : (i32) -> "
                         "!llvm.struct<(i32, i1)>\n    %p = llvm.extractvalue %s[1] : "
                         "!llvm.struct<(i32, i1)>\n    %r = llvm.zext %p : i1 to i32\n",
                         [](uint32_t) { return 0u; });
  for (uint32_t lane = 0; lane < 32; ++lane)
    EXPECT_EQ(elected[lane], lane == 0);
  // Half of a warp on its own.
  auto half = perLane(R"(    %sixteen = llvm.mlir.constant(16 : i32) : i32
    %low = llvm.icmp "ult" %tid, %sixteen : i32
    %maskLow = llvm.mlir.constant(65535 : i32) : i32
    %maskHigh = llvm.xor %maskLow, %all : i32
    %mask = llvm.select %low, %maskLow, %maskHigh : i1, i32
    %r = llvm.call_intrinsic "llvm.nvvm.redux.sync.add"(%x, %mask) : (i32, i32) -> i32
)",
                      [](uint32_t lane) { return lane; });
  EXPECT_EQ(half[0], 120u);
  EXPECT_EQ(half[31], 376u);
}

TEST(WarpInstructions, PartOfAMask) {
  EmulatedKernel kernel("    %m = llvm.mlir.constant(1 : i32) : i32\n    %r = llvm.call_intrinsic "
                        "\"llvm.nvvm.redux.sync.add\"(%x, %m) : (i32, i32) -> i32\n",
                        true);
  std::vector<uint32_t> data(32), out(32);
  expectError(kernel.run({readable(data), writable(out)}), "whose mask leaves it out");
}

TEST(InlinePTX, Conversions) {
  auto convert = [](const std::string &instruction) {
    return "    %f = llvm.bitcast %x : i32 to f32\n    %r = llvm.inline_asm \"" + instruction +
           " $0, $1;\", \"=r,f\" %f : (f32) -> i32\n";
  };
  auto x = [](uint32_t lane) { return bitsOf(float(lane) * 20.5f - 300.0f); };
  auto bytes = perLane(convert("cvt.rni.sat.s8.f32"), x);
  auto unsignedBytes = perLane(convert("cvt.rni.sat.u8.f32"), x);
  auto truncated = perLane(convert("cvt.rzi.s32.f32"), x);
  for (uint32_t lane = 0; lane < 32; ++lane) {
    float real = float(lane) * 20.5f - 300.0f;
    EXPECT_EQ(int32_t(bytes[lane]), std::min(127, std::max(-128, int(std::nearbyint(real)))));
    EXPECT_EQ(int32_t(unsignedBytes[lane]), std::min(255, std::max(0, int(std::nearbyint(real)))));
    EXPECT_EQ(int32_t(truncated[lane]), int32_t(real));
  }
  auto pairs = perLane("    %f = llvm.bitcast %x : i32 to f32\n    %r = llvm.inline_asm "
                       "\"cvt.rn.bf16x2.f32 $0, $1, $2;\", \"=r,f,f\" %f, %f : (f32, f32) -> "
                       "i32\n",
                       [](uint32_t lane) { return bitsOf(1.0f + float(lane) / 256); });
  EXPECT_EQ(pairs[0], 0x3f803f80u);
  EXPECT_EQ(pairs[1], 0x3f803f80u) << "ties go to the even one";
  EXPECT_EQ(pairs[3], 0x3f823f82u);
}

TEST(InlinePTX, HalfPairs) {
  // 1.5 · x + 2 in both halves.
  auto out = perLane(R"(    %h = llvm.mlir.constant(1040203264 : i32) : i32
    %two = llvm.mlir.constant(1073758208 : i32) : i32
    %r = llvm.inline_asm "fma.rn.f16x2 $0, $1, $2, $3;", "=r,r,r,r" %x, %h, %two : (i32, i32, i32) -> i32
)",
                     [](uint32_t lane) {
                       _Float16 pair[2] = {_Float16(lane), _Float16(-float(lane))};
                       uint32_t word;
                       std::memcpy(&word, pair, 4);
                       return word;
                     });
  for (uint32_t lane = 0; lane < 32; ++lane) {
    _Float16 pair[2];
    std::memcpy(pair, &out[lane], 4);
    EXPECT_EQ(float(pair[0]), 1.5f * float(lane) + 2);
    EXPECT_EQ(float(pair[1]), 2 - 1.5f * float(lane));
  }
}

TEST(InlinePTX, HintedMemory) {
  EmulatedKernel kernel(R"(
    %p = llvm.inline_asm has_side_effects "createpolicy.fractional.L2::evict_first.b64 $0, 1.0;", "=l" : () -> i64
    %four = llvm.mlir.constant(4 : i32) : i32
    %i = llvm.mul %tid, %four : i32
    %a = llvm.getelementptr %in[%i] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    %b = llvm.getelementptr %out[%i] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    llvm.inline_asm has_side_effects "prefetch.global.L2::evict_last [$0];", "l" %a : (!llvm.ptr<1>) -> ()
    %v = llvm.inline_asm has_side_effects "ld.global.nc.L1::no_allocate.L2::cache_hint.v4.b32 {$0, $1, $2, $3}, [$4], $5;", "=r,=r,=r,=r,l,l" %a, %p : (!llvm.ptr<1>, i64) -> !llvm.struct<(i32, i32, i32, i32)>
    %v0 = llvm.extractvalue %v[0] : !llvm.struct<(i32, i32, i32, i32)>
    %v3 = llvm.extractvalue %v[3] : !llvm.struct<(i32, i32, i32, i32)>
    llvm.inline_asm has_side_effects "st.global.v2.b32 [$0], {$1, $2};", "l,r,r" %b, %v3, %v0 : (!llvm.ptr<1>, i32, i32) -> ()
)");
  std::vector<uint32_t> in = words(128, [](uint32_t i) { return i; }), out(128);
  ASSERT_EQ(kernel.run({readable(in), writable(out)}), "");
  EXPECT_EQ(out[4 * 5], 23u);
  EXPECT_EQ(out[4 * 5 + 1], 20u);
  in.resize(120);
  expectError(kernel.run({readable(in), writable(out)}), "outside of every buffer");
}

TEST(InlinePTX, ZeroFilledCopies) {
  // Each lane copies 16 bytes, of which only `x` come from memory.
  EmulatedKernel kernel(R"(
    %s = llvm.getelementptr %shared[%tid] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, !llvm.array<16 x i8>
    %g = llvm.getelementptr %in[%tid] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, !llvm.array<16 x i8>
    %three = llvm.mlir.constant(3 : i32) : i32
    %m = llvm.and %tid, %three : i32
    %two = llvm.mlir.constant(2 : i32) : i32
    %valid = llvm.shl %m, %two : i32
    llvm.inline_asm has_side_effects "cp.async.cg.shared.global.L2::128B [$0], [$1], 16, $2;", "r,l,r" %s, %g, %valid : (!llvm.ptr<3>, !llvm.ptr<1>, i32) -> ()
    nvvm.cp.async.commit.group
    nvvm.cp.async.wait.group 0
    %v = llvm.load %s {alignment = 16 : i64} : !llvm.ptr<3> -> vector<4xi32>
    %o = llvm.getelementptr %out[%tid] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, !llvm.array<16 x i8>
    llvm.store %v, %o {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
)");
  std::vector<uint32_t> in = words(128, [](uint32_t i) { return i + 1; }), out(128);
  ASSERT_EQ(kernel.run({readable(in), writable(out)}), "");
  for (uint32_t i = 0; i < 128; ++i)
    EXPECT_EQ(out[i], i % 4 < i / 4 % 4 ? i + 1 : 0) << i;
  EXPECT_EQ(kernel.statistics.loads.worst_ways, 1u);
  EXPECT_EQ(kernel.statistics.copies.wavefronts, 4u);
}

TEST(InlinePTX, UnknownIsAnErrorOfCompilation) {
  EmulatedKernel kernel(
      "    llvm.inline_asm has_side_effects \"brkpt;\", \"\" : () -> ()\n    %a = "
      "llvm.inline_asm has_side_effects \"bfind.u32 $0, $1;\", \"=r,r\" %tid : "
      "(i32) -> i32\n    %b = nvvm.read.ptx.sreg.clock : i32\n");
  expectError(kernel.error, "the emulator does not know the inline PTX 'brkpt' (in k)");
  expectError(kernel.error, "the emulator does not know the inline PTX 'bfind.u32 $0, $1' (in k)");
  expectError(kernel.error, "the emulator does not know llvm.nvvm.read.ptx.sreg.clock (in k)");
}

TEST(Atomics, SharedAndGlobal) {
  EmulatedKernel kernel(R"(
    %first = llvm.icmp "eq" %tid, %c0 : i32
    llvm.cond_br %first, ^init, ^go
  ^init:
    llvm.store %c0, %shared : i32, !llvm.ptr<3>
    llvm.br ^go
  ^go:
    nvvm.barrier0
    %old = llvm.atomicrmw add %shared, %c1 monotonic : !llvm.ptr<3>, i32
    nvvm.barrier0
    %sum = llvm.load %shared : !llvm.ptr<3> -> i32
    %most = llvm.atomicrmw max %out, %sum monotonic : !llvm.ptr<1>, i32
    %p1 = llvm.getelementptr %out[1] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i32
    %one = llvm.mlir.constant(0.5 : f32) : f32
    %f = llvm.atomicrmw fadd %p1, %one monotonic : !llvm.ptr<1>, f32
    %p2 = llvm.getelementptr %out[2] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i32
    %swap = llvm.cmpxchg %p2, %c0, %sum monotonic monotonic : !llvm.ptr<1>, i32
    %p3 = llvm.getelementptr %out[3] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i32
    %exchanged = llvm.atomicrmw xchg %p3, %tid monotonic : !llvm.ptr<1>, i32
    %p4 = llvm.getelementptr %out[4] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i32
    llvm.inline_asm has_side_effects "red.global.add.f32 [$0], $1;", "l,f" %p4, %one : (!llvm.ptr<1>, f32) -> ()
)");
  std::vector<uint32_t> in(1), out(5);
  for (uint64_t seed = 0; seed < 10; ++seed) {
    out.assign(5, 0);
    ASSERT_EQ(kernel.run({readable(in), writable(out)}, 96, 3, 0, seed), "");
    EXPECT_EQ(out[0], 96u);
    EXPECT_EQ(out[1], bitsOf(144));
    EXPECT_EQ(out[2], 96u);
    EXPECT_LT(out[3], 96u);
    EXPECT_EQ(out[4], bitsOf(144));
  }
}

/// The last of the blocks adds up what each has left in %out[1 + block].
static std::string splitSum(const std::string &fence, const std::string &ordering) {
  return R"(
    %first = llvm.icmp "eq" %tid, %c0 : i32
    %i = llvm.add %bid, %c1 : i32
    %mine = llvm.getelementptr %out[%i] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    llvm.cond_br %first, ^one, ^end
  ^one:
    llvm.store %i, %mine : i32, !llvm.ptr<1>
)" + fence +
         R"(    %before = llvm.atomicrmw add %out, %c1 )" + ordering + R"( : !llvm.ptr<1>, i32
    %n = nvvm.read.ptx.sreg.nctaid.x : i32
    %last = llvm.sub %n, %c1 : i32
    %isLast = llvm.icmp "eq" %before, %last : i32
    llvm.cond_br %isLast, ^loop(%c0, %c0 : i32, i32), ^end
  ^loop(%at: i32, %sum: i32):
    %next = llvm.add %at, %c1 : i32
    %p = llvm.getelementptr %out[%next] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    %v = llvm.load volatile %p : !llvm.ptr<1> -> i32
    %total = llvm.add %sum, %v : i32
    %more = llvm.icmp "ult" %next, %n : i32
    llvm.cond_br %more, ^loop(%next, %total : i32, i32), ^done
  ^done:
    llvm.store %total, %in : i32, !llvm.ptr<1>
    llvm.br ^end
  ^end:
)";
}

TEST(Races, LastBlockAddsUp) {
  std::vector<uint32_t> sum(1), out(9);
  auto run = [&](EmulatedKernel &kernel, uint64_t seed) {
    out.assign(9, 0);
    return kernel.run({writable(sum), writable(out)}, 32, 8, 0, seed);
  };
  std::string fence = "    nvvm.memory.barrier #nvvm.mem_scope<gpu>\n";
  EmulatedKernel fenced(splitSum(fence, "monotonic")), released(splitSum("", "acq_rel")),
      neither(splitSum("", "monotonic"));
  for (uint64_t seed = 0; seed < 10; ++seed) {
    ASSERT_EQ(run(fenced, seed), "");
    EXPECT_EQ(sum[0], 36u);
    ASSERT_EQ(run(released, seed), "");
    EXPECT_EQ(sum[0], 36u);
    expectError(run(neither, seed), "race in global memory");
  }
}

TEST(Races, BlocksOnTheSameBytes) {
  std::vector<uint32_t> in(64), out(64);
  EmulatedKernel same("    llvm.store %c32, %out : i32, !llvm.ptr<1>\n");
  EXPECT_EQ(same.run({readable(in), writable(out)}, 32, 2), "") << "the same value harms nobody";
  EmulatedKernel different("    llvm.store %bid, %out : i32, !llvm.ptr<1>\n");
  expectError(different.run({readable(in), writable(out)}, 1, 2), "race in global memory");
  EmulatedKernel reads("    %v = llvm.load volatile %out : !llvm.ptr<1> -> i32\n    %p = "
                       "llvm.getelementptr %out[%bid] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32\n"
                       "    llvm.store %c32, %p : i32, !llvm.ptr<1>\n");
  expectError(reads.run({readable(in), writable(out)}, 1, 2), "race in global memory");
}

TEST(Races, WarpBarriers) {
  auto rotate = [](const std::string &barrier) {
    return R"(    %mine = llvm.getelementptr %shared[%tid] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i32
    llvm.store %x, %mine : i32, !llvm.ptr<3>
)" + barrier +
           R"(    %n = llvm.add %tid, %c1 : i32
    %m = llvm.urem %n, %c32 : i32
    %other = llvm.getelementptr %shared[%m] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i32
    %r = llvm.load %other : !llvm.ptr<3> -> i32
)";
  };
  EmulatedKernel kernel(rotate("    nvvm.bar.warp.sync %all : i32\n"), true),
      wrong(rotate(""), true);
  std::vector<uint32_t> in = words(32, [](uint32_t i) { return 3 * i; }), out(32);
  ASSERT_EQ(kernel.run({readable(in), writable(out)}), "");
  EXPECT_EQ(out[31], 0u);
  EXPECT_EQ(out[7], 24u);
  EXPECT_NE(wrong.run({readable(in), writable(out)}), "");
}

TEST(Races, NamedBarriers) {
  // Two warps write, two read; the writers only arrive.
  auto body = [](const std::string &count) {
    return R"(
    %sixtyfour = llvm.mlir.constant(64 : i32) : i32
    %i = llvm.urem %tid, %sixtyfour : i32
    %p = llvm.getelementptr %shared[%i] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i32
    %o = llvm.getelementptr %out[%i] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    %writes = llvm.icmp "ult" %tid, %sixtyfour : i32
    llvm.cond_br %writes, ^write, ^read
  ^write:
    llvm.store %tid, %p : i32, !llvm.ptr<3>
    llvm.inline_asm has_side_effects "bar.arrive 1, )" +
           count + R"(;", "" : () -> ()
    llvm.br ^end
  ^read:
    llvm.inline_asm has_side_effects "bar.sync 1, )" +
           count + R"(;", "" : () -> ()
    %v = llvm.load %p : !llvm.ptr<3> -> i32
    llvm.store %v, %o : i32, !llvm.ptr<1>
    llvm.br ^end
  ^end:
)";
  };
  EmulatedKernel kernel(body("128")), few(body("64"));
  std::vector<uint32_t> in(1), out(64);
  bool found = false;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    ASSERT_EQ(kernel.run({readable(in), writable(out)}, 128, 1, 0, seed), "");
    EXPECT_EQ(out[63], 63u);
    found |= !few.run({readable(in), writable(out)}, 128, 1, 0, seed).empty();
  }
  EXPECT_TRUE(found);
}

TEST(DependentLaunch, WaitsBeforeItReads) {
  std::vector<uint32_t> in(32, 5), out(32);
  EmulatedKernel waits("    nvvm.griddepcontrol wait\n    %p = llvm.getelementptr %in[%tid] : "
                       "(!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32\n    %v = llvm.load %p : "
                       "!llvm.ptr<1> -> i32\n    nvvm.griddepcontrol launch_dependents\n    %o = "
                       "llvm.getelementptr %out[%tid] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32\n "
                       "   llvm.store %v, %o : i32, !llvm.ptr<1>\n");
  EmulatedKernel early("    nvvm.griddepcontrol wait\n    %r = llvm.add %x, %c1 : i32\n", true);
  lowbit_emu_argument constant = readable(in);
  constant.kind = LOWBIT_EMU_CONSTANT;
  EXPECT_EQ(waits.run({readable(in), writable(out)}, 32, 1, LOWBIT_EMU_DEPENDENT), "");
  expectError(early.run({readable(in), writable(out)}, 32, 1, LOWBIT_EMU_DEPENDENT),
              "before griddepcontrol.wait");
  EXPECT_EQ(early.run({constant, writable(out)}, 32, 1, LOWBIT_EMU_DEPENDENT), "");
  EXPECT_EQ(early.run({readable(in), writable(out)}), "");
}

TEST(Matrices, StoreUndoesLoad) {
  for (std::string layout : {"", ".trans"}) {
    std::string four = "(i32, i32, i32, i32)";
    EmulatedKernel kernel(
        R"(
    %s = llvm.getelementptr %shared[%tid] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, !llvm.array<16 x i8>
    %g = llvm.getelementptr %in[%tid] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, !llvm.array<16 x i8>
    %v = llvm.load %g {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xi32>
    llvm.store %v, %s {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<3>
    nvvm.bar.warp.sync %all : i32
    %m = llvm.call_intrinsic "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4)" +
        layout + R"(.b16.p3"(%s) : (!llvm.ptr<3>) -> !llvm.struct<(i32, i32, i32, i32)>
    %a = llvm.extractvalue %m[0] : !llvm.struct<(i32, i32, i32, i32)>
    %b = llvm.extractvalue %m[1] : !llvm.struct<(i32, i32, i32, i32)>
    %c = llvm.extractvalue %m[2] : !llvm.struct<(i32, i32, i32, i32)>
    %d = llvm.extractvalue %m[3] : !llvm.struct<(i32, i32, i32, i32)>
    nvvm.bar.warp.sync %all : i32
    llvm.call_intrinsic "llvm.nvvm.stmatrix.sync.aligned.m8n8.x4)" +
        layout + R"(.b16.p3"(%s, %a, %b, %c, %d) : (!llvm.ptr<3>, i32, i32, i32, i32) -> ()
    nvvm.bar.warp.sync %all : i32
    %w = llvm.load %s {alignment = 16 : i64} : !llvm.ptr<3> -> vector<4xi32>
    %o = llvm.getelementptr %out[%tid] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, !llvm.array<16 x i8>
    llvm.store %w, %o {alignment = 16 : i64} : vector<4xi32>, !llvm.ptr<1>
)");
    std::vector<uint32_t> in = words(128, [](uint32_t i) { return i * 0x01010101u; }), out(128);
    ASSERT_EQ(kernel.run({readable(in), writable(out)}), "");
    EXPECT_EQ(in, out);
    EXPECT_EQ(kernel.statistics.matrix_loads.wavefronts, 4u);
    EXPECT_EQ(kernel.statistics.matrix_stores.worst_ways, 1u);
  }
}

TEST(Matrices, HalfSums) {
  // A and B of ones, C of lane numbers: 16 more everywhere.
  auto out = perLane(R"(    %ones = llvm.mlir.constant(dense<1.0> : vector<2xf16>) : vector<2xf16>
    %c = llvm.bitcast %x : i32 to vector<2xf16>
    %d = nvvm.mma.sync A[%ones, %ones, %ones, %ones] B[%ones, %ones] C[%c, %c] {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, shape = #nvvm.shape<m = 16, n = 8, k = 16>} : (vector<2xf16>, vector<2xf16>, vector<2xf16>) -> !llvm.struct<(vector<2xf16>, vector<2xf16>)>
    %e = llvm.extractvalue %d[1] : !llvm.struct<(vector<2xf16>, vector<2xf16>)>
    %r = llvm.bitcast %e : vector<2xf16> to i32
)",
                     [](uint32_t lane) {
                       _Float16 pair[2] = {_Float16(lane), _Float16(0.5f)};
                       uint32_t word;
                       std::memcpy(&word, pair, 4);
                       return word;
                     });
  for (uint32_t lane = 0; lane < 32; ++lane) {
    _Float16 pair[2];
    std::memcpy(pair, &out[lane], 4);
    EXPECT_EQ(float(pair[0]), float(lane) + 16);
    EXPECT_EQ(float(pair[1]), 16.5f);
  }
}
