//===- StatisticsTest.cpp - what the emulator counts, and how fast it is ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "TestLayer.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include <chrono>
#include <gtest/gtest.h>
#include <iostream>

using namespace lowbit;
using namespace lowbit::test;

static IntegerLayer makeLayer() {
  IntegerLayer layer;
  layer.n = 256, layer.k = 512;
  layer.draw();
  return layer;
}

TEST(Statistics, SwizzledTilesHaveNoBankConflicts) {
  IntegerLayer layer = makeLayer();
  EmulatedModule module(layer.text(true));
  ASSERT_EQ(module.error, "");
  Tensor x = layer.randomInput(256);
  auto start = std::chrono::steady_clock::now();
  Tensor got = module.run(x);
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  ASSERT_EQ(module.error, "");
  EXPECT_EQ(got.bytes, layer.expected(x).bytes);
  const lowbit_emu_statistics &counts = module.statistics;
  EXPECT_GT(counts.matrix_loads.instructions, 0u);
  EXPECT_EQ(counts.matrix_loads.worst_ways, 1u);
  EXPECT_EQ(counts.matrix_loads.wavefronts, counts.matrix_loads.ideal);
  EXPECT_EQ(counts.copies.worst_ways, 1u);
  // Every result is written once, every block reads its rows of both operands.
  EXPECT_EQ(counts.global_write_bytes, 256u * 256u);
  EXPECT_GE(counts.global_read_bytes, 2u * 256u * 512u);
  std::cout << "256 x 256 x 512: " << seconds.count() << " s, " << counts.blocks << " blocks\n";
  EXPECT_LT(seconds.count(), 5.0);
}

TEST(Statistics, OtherTilesHave) {
  // Rows of 64 bytes without permutation: ldmatrix meets each bank four times. The weights still
  // lie permuted, so that the result is wrong, too.
  IntegerLayer layer = makeLayer();
  EmulatedModule module(layer.text(true), [](ModuleOp root) {
    root.walk([](arith::XOrIOp op) {
      if (!op.getType().isInteger(32))
        return;
      op.getResult().replaceAllUsesWith(op.getLhs());
      op->erase();
    });
  });
  ASSERT_EQ(module.error, "");
  module.run(layer.randomInput(64));
  ASSERT_EQ(module.error, "");
  EXPECT_EQ(module.statistics.matrix_loads.worst_ways, 4u);
}
