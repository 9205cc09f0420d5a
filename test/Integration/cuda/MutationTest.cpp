//===- MutationTest.cpp - the emulator notices kernels that are wrong ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A test that no mistake can fail proves nothing: each case breaks the generated code in one way
// that only a GPU, and only sometimes, would show.
//
//===----------------------------------------------------------------------===//
#include "TestLayer.h"
#include <gtest/gtest.h>
#include <regex>

using namespace lowbit;
using namespace lowbit::test;

static IntegerLayer makeLayer() {
  IntegerLayer layer;
  layer.n = 128, layer.k = 1024;
  layer.draw();
  return layer;
}

/// Wrong bytes, or -1 where the emulator refuses to go on (`why` says what it said).
static int64_t wrongBytes(const std::function<void(std::string &)> &mutate,
                          std::string *why = nullptr) {
  IntegerLayer layer = makeLayer();
  EmulatedModule module(layer.text(true), mutate);
  EXPECT_EQ(module.error, "");
  Tensor x = layer.randomInput(128), want = layer.expected(x), got = module.run(x, 7);
  if (!module.error.empty()) {
    if (why)
      *why = module.error;
    return -1;
  }
  int64_t wrong = 0;
  for (size_t i = 0; i < want.bytes.size(); ++i)
    wrong += want.bytes[i] != got.bytes[i];
  return wrong;
}

/// Replaces what matches; fails the test where nothing does.
static std::function<void(std::string &)> replacing(const std::string &pattern,
                                                    const std::string &with) {
  return [=](std::string &text) {
    std::string changed = std::regex_replace(text, std::regex(pattern), with);
    EXPECT_NE(changed, text) << "nothing matches " << pattern;
    text = changed;
  };
}

TEST(Mutation, NoneIsRight) { EXPECT_EQ(wrongBytes({}), 0); }

TEST(Mutation, BarrierDropped) { EXPECT_NE(wrongBytes(replacing("nvvm\\.barrier0", "")), 0); }

TEST(Mutation, WaitsForOneGroupTooFew) {
  EXPECT_NE(wrongBytes(replacing("cp\\.async\\.wait\\.group 2", "cp.async.wait.group 3")), 0);
}

TEST(Mutation, DoesNotWait) {
  EXPECT_NE(wrongBytes(replacing("nvvm\\.cp\\.async\\.wait\\.group [0-9]+", "")), 0);
}

TEST(Mutation, OtherSwizzle) {
  // Every exclusive-or is a swizzle.
  EXPECT_NE(wrongBytes(replacing("arith\\.xori", "arith.ori")), 0);
}

TEST(Mutation, SignedActivations) {
  EXPECT_NE(wrongBytes(replacing("multiplicandAPtxType = #nvvm\\.mma_type<u8>",
                                 "multiplicandAPtxType = #nvvm.mma_type<s8>")),
            0);
}

TEST(Mutation, OtherRounding) {
  // Truncation instead of rounding to the nearest even.
  auto mutate = [](std::string &text) {
    std::string changed = std::regex_replace(
        text,
        std::regex(
            "llvm\\.call_intrinsic \"llvm\\.nvvm\\.f2i\\.rn\"\\((%[0-9]+)\\) : \\(f32\\) -> i32"),
        "arith.fptosi $1 : f32 to i32");
    EXPECT_NE(changed, text);
    text = changed;
  };
  EXPECT_NE(wrongBytes(mutate), 0);
}

TEST(Mutation, WritesPastTheEnd) {
  // One row more than there are.
  std::string why;
  IntegerLayer layer = makeLayer();
  EmulatedModule module(layer.text(true), [](std::string &text) {
    size_t guard = text.rfind("arith.cmpi ult");
    ASSERT_NE(guard, std::string::npos);
    text.replace(guard, 14, "arith.cmpi ule");
  });
  ASSERT_EQ(module.error, "");
  module.run(layer.randomInput(127), 1);
  EXPECT_NE(module.error.find("outside of every buffer"), std::string::npos) << module.error;
}

TEST(Mutation, LanesPart) {
  std::string why;
  // Half of the threads leave before the first instruction of a whole warp.
  auto mutate = [](std::string &text) {
    size_t at = text.find("scf.for");
    ASSERT_NE(at, std::string::npos);
    size_t kernel = text.rfind("nvvm.read.ptx.sreg.tid.x", at);
    ASSERT_NE(kernel, std::string::npos);
    size_t ldmatrix = text.find("nvvm.mma.sync", at);
    ASSERT_NE(ldmatrix, std::string::npos);
    size_t barrier = text.find("nvvm.barrier0", at);
    std::string tid = text.substr(text.rfind('%', kernel), text.find(' ', text.rfind('%', kernel)) -
                                                               text.rfind('%', kernel));
    text.replace(barrier, 13,
                 "%odd_limit = arith.constant 48 : i32\n%odd = arith.cmpi ult, " + tid +
                     ", %odd_limit : i32\nscf.if %odd { nvvm.barrier0 }");
  };
  EXPECT_EQ(wrongBytes(mutate, &why), -1);
  EXPECT_TRUE(why.find("deadlock") != std::string::npos || why.find("race") != std::string::npos ||
              why.find("nothing has written") != std::string::npos)
      << why;
}
