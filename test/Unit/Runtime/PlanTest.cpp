//===- PlanTest.cpp - launch plans: arenas, records, and what must not be -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "../../../lib/Runtime/ArenaLayout.h"
#include "../../../lib/Runtime/Failure.h"
#include "../../../lib/Runtime/PlanCache.h"
#include "../../../lib/Runtime/PlanRecorder.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <random>

using namespace lowbit::runtime;

namespace {

/// A manifest with one kernel: two addresses and a number.
Manifest oneKernel() {
  Manifest manifest;
  manifest.kernels.push_back({"k", "ppn", 1024});
  return manifest;
}

class Recorder : public testing::Test {
protected:
  Manifest manifest = oneKernel();
  MappedWeights weights;
  PlanRecorder recorder{manifest, weights};
  int64_t shape[7] = {1, 1, 1, 32, 1, 1, 0};

  void launch(const void *to, const void *from) {
    int64_t arguments[] = {int64_t(reinterpret_cast<uintptr_t>(to)),
                           int64_t(reinterpret_cast<uintptr_t>(from)), 7};
    recorder.enqueue(0, shape, arguments, 3);
  }
  ReturnedBuffer result(void *address, int64_t bytes) {
    return {address, static_cast<char *>(address), {bytes}, bytes, true};
  }
};

std::string messageOf(const std::function<void()> &body) {
  try {
    body();
  } catch (const Failure &failure) {
    return failure.message;
  }
  return "no failure";
}

} // namespace

TEST(ArenaLayout, NoTwoThatLiveAtOnceMeet) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    int64_t steps = 1 + int64_t(random() % 60);
    std::vector<ArenaItem> items(random() % 80);
    int64_t total = 0, most = 0;
    for (ArenaItem &item : items) {
      item.first = int64_t(random()) % steps;
      item.last = item.first + int64_t(random() % 6);
      item.bytes = random() % 5 ? int64_t(random() % 5000) : 0;
      total += (item.bytes + 255) / 256 * 256;
    }
    for (int64_t step = 0; step < steps + 6; ++step) {
      int64_t live = 0;
      for (const ArenaItem &item : items)
        live += item.first <= step && step <= item.last ? (item.bytes + 255) / 256 * 256 : 0;
      most = std::max(most, live);
    }
    int64_t arena = layOut(items);
    ASSERT_TRUE(isSound(items, arena)) << "round " << round;
    ASSERT_GE(arena, most);
    ASSERT_LE(arena, total);
    std::vector<ArenaItem> again = items;
    ASSERT_EQ(layOut(again), arena);
    for (size_t i = 0; i < items.size(); ++i)
      ASSERT_EQ(again[i].offset, items[i].offset);
  }
}

TEST(ArenaLayout, WrongOffsetsAreFound) {
  std::mt19937 random(2);
  std::vector<ArenaItem> items;
  for (int i = 0; i < 40; ++i)
    items.push_back({1 + int64_t(random() % 3000), i, i + 3});
  int64_t arena = layOut(items);
  ASSERT_TRUE(isSound(items, arena));
  for (size_t i = 0; i + 1 < items.size(); ++i) {
    std::vector<ArenaItem> wrong = items;
    wrong[i].offset = wrong[i + 1].offset;
    EXPECT_FALSE(isSound(wrong, arena)) << i;
    wrong = items;
    wrong[i].offset += 1;
    EXPECT_FALSE(isSound(wrong, arena)) << i;
    wrong[i].offset = arena;
    EXPECT_FALSE(isSound(wrong, arena)) << i;
  }
}

TEST(ArenaLayout, AChainTakesTwoBuffers) {
  std::vector<ArenaItem> items;
  for (int i = 0; i < 100; ++i)
    items.push_back({4096, i, i + 1});
  EXPECT_EQ(layOut(items), 2 * 4096);
}

TEST_F(Recorder, ChainOfLaunches) {
  void *input = recorder.addInput(nullptr, 100);
  std::vector<void *> buffers;
  const void *last = input;
  for (int i = 0; i < 10; ++i) {
    buffers.push_back(recorder.allocate(1000));
    launch(buffers.back(), last);
    if (i)
      recorder.free(buffers[size_t(i) - 1]);
    last = buffers.back();
  }
  LaunchPlan plan = recorder.makePlan({result(buffers.back(), 1000)});
  ASSERT_EQ(plan.steps.size(), 10u);
  EXPECT_EQ(plan.arenaBytes, 2 * 1024);
  EXPECT_EQ(plan.totalBytes, 9 * 1000);
  EXPECT_EQ(plan.buffers[9].output, 0);
  EXPECT_EQ(plan.steps[0].addresses[1].space, PlanAddress::Input);
  EXPECT_EQ(plan.steps[0].values, (std::vector<int64_t>{0, 1, 7}));
}

TEST_F(Recorder, ValuesOfTheHostAreKept) {
  int64_t sizes[2] = {3, 4};
  void *copy = recorder.allocate(sizeof sizes);
  recorder.transfer(copy, sizes, sizeof sizes);
  sizes[0] = 99;
  void *out = recorder.allocate(8);
  launch(out, copy);
  int64_t host = 5;
  LaunchPlan plan = recorder.makePlan({result(out, 8), result(&host, 8)});
  host = 6;
  ASSERT_EQ(plan.steps[0].addresses[1].space, PlanAddress::Constants);
  int64_t kept;
  std::memcpy(&kept, plan.constants.data() + plan.steps[0].addresses[1].offset, 8);
  EXPECT_EQ(kept, 3);
  ASSERT_EQ(plan.results[1].at.space, PlanAddress::Constants);
  std::memcpy(&kept, plan.constants.data() + plan.results[1].at.offset, 8);
  EXPECT_EQ(kept, 5);
}

TEST_F(Recorder, SharedAndPartialResultsStayInTheArena) {
  void *input = recorder.addInput(nullptr, 64);
  void *a = recorder.allocate(64), *b = recorder.allocate(128);
  launch(a, input);
  launch(b, a);
  LaunchPlan plan =
      recorder.makePlan({result(a, 64), result(a, 64), result(b, 64), result(input, 64)});
  EXPECT_EQ(plan.buffers[0].output, -1);
  EXPECT_EQ(plan.buffers[1].output, -1);
  EXPECT_EQ(plan.buffers[0].last, 2);
  EXPECT_EQ(plan.results[3].at.space, PlanAddress::Input);
}

TEST_F(Recorder, HostInputsAreInputs) {
  std::vector<char> data(64);
  void *input = recorder.addInput(data.data(), 64);
  EXPECT_EQ(input, data.data());
  void *copy = recorder.allocate(32);
  recorder.transfer(copy, data.data() + 16, 32);
  LaunchPlan plan = recorder.makePlan({result(copy, 32)});
  EXPECT_EQ(plan.steps[0].addresses[1].space, PlanAddress::Input);
  EXPECT_EQ(plan.steps[0].addresses[1].offset, 16);
}

TEST_F(Recorder, WhatAModelMustNotDo) {
  void *a = recorder.allocate(64), *b = recorder.allocate(64);
  char host[64] = {};
  auto expect = [&](const char *part, const std::function<void()> &body) {
    EXPECT_NE(messageOf(body).find(part), std::string::npos) << messageOf(body);
  };
  expect("host waits", [&] { recorder.transfer(host, a, 64); });
  expect("beyond the end", [&] { recorder.transfer(a, host, 65); });
  expect("beyond the end", [&] { recorder.transfer(static_cast<char *>(a) + 32, b, 33); });
  expect("host memory to a kernel", [&] { launch(a, host); });
  expect("manifest does not have", [&] { recorder.enqueue(1, shape, nullptr, 0); });
  shape[3] = 1025;
  expect("cannot be launched", [&] { launch(a, b); });
  shape[3] = 32, shape[6] = 2048;
  expect("shared memory", [&] { launch(a, b); });
  shape[6] = 0;
  recorder.free(a);
  expect("freed", [&] { launch(a, b); });
  expect("does not have", [&] { recorder.free(a); });
  expect("does not have", [&] { recorder.free(static_cast<char *>(b) + 1); });
}

TEST(PlanCache, KeepsTheLatest) {
  PlanCache cache;
  for (size_t i = 0; i < PlanCache::capacity + 5; ++i) {
    cache.insert(std::to_string(i), std::make_shared<PreparedPlan>(LaunchPlan()));
    EXPECT_NE(cache.find("0"), nullptr);
  }
  EXPECT_EQ(cache.find("1"), nullptr);
  EXPECT_NE(cache.find(std::to_string(PlanCache::capacity + 4)), nullptr);
}
