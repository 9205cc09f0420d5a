//===- MutationTest.cpp - the emulator notices kernels that are wrong ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A test that no mistake can fail proves nothing: each mutation breaks generated code in one way
// that only a GPU, and only sometimes, would show. It must be caught within a few seeds, by an
// error of the emulator or a wrong result; and the kernels as they are must never be.
//
//===----------------------------------------------------------------------===//
#include "KernelFamilies.h"
#include "Mutations.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include <gtest/gtest.h>
#include <iostream>
#include <map>

using namespace lowbit;
using namespace lowbit::test;

/// What an error of the emulator is about, in a few words.
static std::string summarize(const std::string &error) {
  for (const char *kind :
       {"race in shared memory", "race in global memory", "nobody has waited for",
        "nothing has written", "outside of every buffer", "read-only buffer",
        "shared memory access of", "misaligned", "not aligned", "deadlock",
        "different instructions", "found its input invalid", "still reads"})
    if (error.find(kind) != std::string::npos)
      return kind;
  return error;
}

/// What is wrong with the kernel, or "" where nothing is found with any of the seeds.
static std::string judge(const KernelFamily &family, EmulatedModule &module, uint64_t seeds) {
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    Tensor got = module.run(family.input, seed);
    if (!module.error.empty())
      return module.error;
    if (std::string wrong = family.judge(got); !wrong.empty())
      return "wrong result";
  }
  return "";
}

static gpu::GPUFuncOp deviceFunction(ModuleOp root, rt::KernelOp kernel) {
  std::string name = kernel.getSymName().str();
  return root.lookupSymbol<gpu::GPUModuleOp>(name + "_device").lookupSymbol<gpu::GPUFuncOp>(name);
}

TEST(Mutations, AllAreCaught) {
  size_t caught = 0, planted = 0;
  std::map<std::string, size_t> byKind;
  for (const Mutation &mutation : allMutations())
    for (const KernelFamily &family : kernelFamilies()) {
      if (!llvm::is_contained(mutation.families, family.name))
        continue;
      bool applied = false;
      EmulatedModule module(
          family.text,
          [&](ModuleOp root) {
            for (rt::KernelOp op : root.getOps<rt::KernelOp>())
              if (op.getGenerator() == family.generator)
                applied |= mutation.apply(deviceFunction(root, op));
          },
          family.rows);
      ASSERT_TRUE(applied) << "nothing to mutate: " << mutation.name << " in " << family.name;
      ++planted;
      std::string found =
          module.error.empty() ? judge(family, module, 5) : "not compiled: " + module.error;
      EXPECT_NE(found, "") << "not caught: " << mutation.name << " in " << family.name;
      EXPECT_EQ(found.find("not compiled"), std::string::npos)
          << mutation.name << " in " << family.name << ": " << found;
      caught += !found.empty();
      ++byKind[summarize(found)];
      std::cout << family.name << " | " << mutation.name << " | " << summarize(found) << "\n";
    }
  std::cout << caught << " of " << planted << " planted mistakes caught\n";
  for (const auto &[kind, count] : byKind)
    std::cout << "  " << count << " by " << (kind.empty() ? "nothing" : kind) << "\n";
  EXPECT_GE(planted, 30u);
}

TEST(Mutations, NoFalseAlarm) {
  for (const KernelFamily &family : kernelFamilies()) {
    EmulatedModule module(family.text, {}, family.rows);
    ASSERT_EQ(module.error, "") << family.name;
    EXPECT_EQ(judge(family, module, 100), "") << family.name;
  }
}
