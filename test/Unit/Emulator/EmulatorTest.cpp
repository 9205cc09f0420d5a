//===- EmulatorTest.cpp - instructions and the C interface of the emulator ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit-c/Emulator.h"
#include "lowbit/Emulator/Table.h"
#include <cmath>
#include <cstddef>
#include <cstring>
#include <gtest/gtest.h>
#include <string>
#include <thread>
#include <vector>

namespace {
class Emulator : public testing::Test {
protected:
  void SetUp() override {
    ASSERT_EQ(lowbit_emulator_open(LOWBIT_TEST_KERNELS, &emulator), LOWBIT_OK)
        << lowbit_emulator_last_error();
  }
  void TearDown() override { lowbit_emulator_close(emulator); }

  template <typename T>
  static lowbit_emu_argument read(const std::vector<T> &values) {
    return {LOWBIT_EMU_READ, 0, 0, const_cast<T *>(values.data()), values.size() * sizeof(T)};
  }
  template <typename T>
  static lowbit_emu_argument write(std::vector<T> &values) {
    return {LOWBIT_EMU_READ_WRITE, 0, 0, values.data(), values.size() * sizeof(T)};
  }
  static lowbit_emu_argument number(int64_t value) {
    return {LOWBIT_EMU_I32, 0, value, nullptr, 0};
  }

  lowbit_status run(const char *kernel, std::vector<lowbit_emu_argument> arguments,
                    uint32_t threads = 32, uint64_t seed = 1, uint32_t flags = 0) {
    statistics = {};
    statistics.size = sizeof statistics;
    lowbit_emu_launch launch = {sizeof launch, {1, 1, 1}, {threads, 1, 1}, 4096, seed, flags, 0, &statistics};
    return lowbit_emulator_run(emulator, kernel, &launch, arguments.data(), arguments.size());
  }

  lowbit_emulator *emulator = nullptr;
  lowbit_emu_statistics statistics;
};
} // namespace

TEST_F(Emulator, Registers) {
  std::vector<uint32_t> out(2 * 3 * 24 * 4, ~0u);
  lowbit_emu_launch launch = {sizeof launch, {3, 2, 1}, {24, 4, 1}, 0, 1, 0, 0, nullptr};
  lowbit_emu_argument argument = write(out);
  ASSERT_EQ(lowbit_emulator_run(emulator, "registers", &launch, &argument, 1), LOWBIT_OK)
      << lowbit_emulator_last_error();
  for (size_t i = 0; i < out.size(); ++i)
    EXPECT_EQ(out[i], i);
}

TEST_F(Emulator, BarrierOrdersWarps) {
  std::vector<uint32_t> out(256);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    ASSERT_EQ(run("mirror", {write(out), number(1)}, 256, seed), LOWBIT_OK);
    for (uint32_t i = 0; i < 256; ++i)
      ASSERT_EQ(out[i], (255 - i) * 3);
  }
  // Without it some thread comes too early, whatever the order; and that is a race, or a read of
  // what is not there yet.
  for (uint64_t seed = 0; seed < 20; ++seed) {
    ASSERT_EQ(run("mirror", {write(out), number(0)}, 256, seed), LOWBIT_INTERNAL);
    std::string message = lowbit_emulator_last_error();
    EXPECT_TRUE(message.find("race in shared memory") != std::string::npos ||
                message.find("which nothing has written") != std::string::npos)
        << message;
    ASSERT_EQ(run("mirror", {write(out), number(0)}, 256, seed, LOWBIT_EMU_NO_RACES), LOWBIT_OK);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < 256; ++i)
      wrong += out[i] != (255 - i) * 3;
    EXPECT_GT(wrong, 0u) << seed;
  }
}

TEST_F(Emulator, CopiesLandAtTheWait) {
  std::vector<uint32_t> source(128), out(256);
  for (uint32_t i = 0; i < source.size(); ++i)
    source[i] = i + 1;
  ASSERT_EQ(run("copies", {write(out), read(source), number(0), number(0)}), LOWBIT_OK);
  EXPECT_EQ(out[0], 0x7b7b7b7bu);
  ASSERT_EQ(run("copies", {write(out), read(source), number(0), number(1)}), LOWBIT_INTERNAL);
  EXPECT_NE(std::string(lowbit_emulator_last_error()).find("nobody has waited for"),
            std::string::npos)
      << lowbit_emulator_last_error();
  ASSERT_EQ(run("copies", {write(out), read(source), number(1), number(0)}), LOWBIT_OK);
  EXPECT_EQ(out[8 * 3 + 1], 4u * 3 + 2);
  EXPECT_EQ(out[4], 0x7b7b7b7bu);
  ASSERT_EQ(run("copies", {write(out), read(source), number(2), number(0)}), LOWBIT_OK);
  EXPECT_EQ(out[4], 1u);
  EXPECT_EQ(out[5], 2u);
  EXPECT_EQ(out[6], 0u) << "what is not copied is filled with zeros";
}

TEST_F(Emulator, Shuffles) {
  std::vector<uint32_t> out(128);
  ASSERT_EQ(run("shuffles", {write(out)}), LOWBIT_OK);
  for (uint32_t lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(out[4 * lane], 105u);
    EXPECT_EQ(out[4 * lane + 1], lane ? 99 + lane : 100u);
    EXPECT_EQ(out[4 * lane + 2], lane < 30 ? 102 + lane : 100 + lane);
    EXPECT_EQ(out[4 * lane + 3], 100 + (lane ^ 16));
  }
}

TEST_F(Emulator, Matrices) {
  std::vector<uint32_t> out(128);
  for (uint32_t transposed : {0u, 1u}) {
    ASSERT_EQ(run("matrices", {write(out), number(transposed)}), LOWBIT_OK)
        << lowbit_emulator_last_error();
    for (uint32_t lane = 0; lane < 32; ++lane)
      for (uint32_t m = 0; m < 4; ++m) {
        uint32_t r = lane / 4, c = lane % 4 * 2;
        uint32_t low = transposed ? 64 * m + 8 * c + r : 64 * m + 8 * r + c,
                 high = transposed ? low + 8 : low + 1;
        EXPECT_EQ(out[4 * lane + m], low | high << 16);
      }
  }
}

TEST_F(Emulator, MultiplyInt8) {
  for (uint32_t signs : {0u, unsigned(LOWBIT_EMU_UNSIGNED_A), unsigned(LOWBIT_EMU_UNSIGNED_B)}) {
    std::vector<uint8_t> a(16 * 32), b(8 * 32);
    std::vector<int32_t> c(128), out(128);
    for (size_t i = 0; i < a.size(); ++i)
      a[i] = uint8_t(i * 37 + 11);
    for (size_t i = 0; i < b.size(); ++i)
      b[i] = uint8_t(i * 91 + 5);
    for (size_t i = 0; i < c.size(); ++i)
      c[i] = int32_t(i) * 1000 - 7;
    c[0] = INT32_MAX; // Sums wrap.
    ASSERT_EQ(run("mma_int8", {write(out), read(a), read(b), read(c), number(signs)}), LOWBIT_OK)
        << lowbit_emulator_last_error();
    for (int row = 0; row < 16; ++row)
      for (int column = 0; column < 8; ++column) {
        auto sum = uint32_t(c[row * 8 + column]);
        for (int k = 0; k < 32; ++k) {
          int x = signs & LOWBIT_EMU_UNSIGNED_A ? a[row * 32 + k] : int8_t(a[row * 32 + k]);
          int y = signs & LOWBIT_EMU_UNSIGNED_B ? b[column * 32 + k] : int8_t(b[column * 32 + k]);
          sum += uint32_t(x * y);
        }
        EXPECT_EQ(out[row * 8 + column], int32_t(sum)) << row << ", " << column;
      }
  }
}

TEST_F(Emulator, MultiplyHalf) {
  std::vector<_Float16> a(16 * 16), b(8 * 16);
  std::vector<float> c(128), out(128);
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = _Float16(float(i % 13) - 6);
  for (size_t i = 0; i < b.size(); ++i)
    b[i] = _Float16(float(i % 7) * 0.5f - 1);
  for (size_t i = 0; i < c.size(); ++i)
    c[i] = float(i);
  ASSERT_EQ(run("mma_half", {write(out), read(a), read(b), read(c)}), LOWBIT_OK)
      << lowbit_emulator_last_error();
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column) {
      float sum = c[row * 8 + column]; // Small whole numbers and halves: exact.
      for (int k = 0; k < 16; ++k)
        sum += float(a[row * 16 + k]) * float(b[column * 16 + k]);
      EXPECT_EQ(out[row * 8 + column], sum) << row << ", " << column;
    }
}

TEST_F(Emulator, Arithmetic) {
  std::vector<uint32_t> out(11);
  std::vector<float> x = {0.5f, 1.5f, -2.5f, 3e9f, -3e9f, NAN, 1e-40f};
  ASSERT_EQ(run("arithmetic", {write(out), read(x)}, 1), LOWBIT_OK);
  EXPECT_EQ(out[0], (0xf0f0f0f0u & 0xccccccccu) | 0xaaaaaaaau);
  EXPECT_EQ(out[1], 0x44114400u);
  EXPECT_EQ(out[2], 0xffffffffu);
  EXPECT_EQ(int32_t(out[3]), 4 + 3 + 2 - 255 + 10);
  std::vector<int32_t> rounded(out.begin() + 4, out.end());
  EXPECT_EQ(rounded, (std::vector<int32_t>{0, 2, -2, INT32_MAX, INT32_MIN, 0, 0}));
}

TEST_F(Emulator, Refusals) {
  const char *expected[] = {"outside of every buffer",
                            "misaligned",
                            "shared memory access of 4 bytes at offset 256 of 128",
                            "deadlock",
                            "different instructions",
                            "stopped itself"};
  std::vector<uint32_t> out(4);
  for (int i = 0; i < 6; ++i) {
    lowbit_emu_launch launch = {sizeof launch, {1, 1, 1}, {64, 1, 1}, 128, 3, 0, 0, nullptr};
    lowbit_emu_argument arguments[] = {write(out), number(i)};
    EXPECT_EQ(lowbit_emulator_run(emulator, "wrong", &launch, arguments, 2), LOWBIT_INTERNAL);
    std::string message = lowbit_emulator_last_error();
    EXPECT_NE(message.find(expected[i]), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
  // A failed launch leaves nothing behind.
  EXPECT_EQ(run("mirror", {read(out), number(1)}, 4), LOWBIT_INTERNAL) << "the output is read-only";
  EXPECT_EQ(run("mirror", {write(out), number(1)}, 4), LOWBIT_OK) << lowbit_emulator_last_error();
}

TEST_F(Emulator, Interface) {
  std::vector<uint32_t> out(4);
  EXPECT_EQ(run("nothing", {}), LOWBIT_INVALID);
  EXPECT_STREQ(lowbit_emulator_last_error(), "no kernel 'nothing'");
  EXPECT_EQ(run("registers", {}), LOWBIT_INVALID);
  EXPECT_STREQ(lowbit_emulator_last_error(), "kernel 'registers' takes 1 arguments, not 0");
  EXPECT_EQ(run("registers", {write(out)}, 2000), LOWBIT_INVALID);
  // A launch of the first version ends after the seed.
  lowbit_emu_launch launch = {offsetof(lowbit_emu_launch, flags), {1, 1, 1}, {4, 1, 1}, 4096, 1,
                              ~0u, 0, nullptr};
  lowbit_emu_argument arguments[] = {write(out), number(1)};
  EXPECT_EQ(lowbit_emulator_run(emulator, "mirror", &launch, arguments, 2), LOWBIT_OK)
      << lowbit_emulator_last_error();
  launch.size = sizeof launch;
  EXPECT_EQ(lowbit_emulator_run(emulator, "mirror", &launch, arguments, 2), LOWBIT_UNSUPPORTED);
  launch.size = 4;
  EXPECT_EQ(lowbit_emulator_run(emulator, "mirror", &launch, arguments, 2), LOWBIT_INVALID);
  launch = {sizeof launch, {1, 1, 1}, {4, 1, 1}, 1 << 20, 1, 0, 0, nullptr};
  EXPECT_EQ(lowbit_emulator_run(emulator, "mirror", &launch, arguments, 2), LOWBIT_INVALID);
  lowbit_emulator *other = emulator;
  EXPECT_EQ(lowbit_emulator_open("/nonexistent/emulator.so", &other), LOWBIT_INVALID);
  EXPECT_EQ(other, nullptr);
  EXPECT_EQ(lowbit_emulator_open(LOWBIT_TEST_NO_KERNELS, &other), LOWBIT_INVALID);
  EXPECT_NE(std::string(lowbit_emulator_last_error()).find("holds no emulated kernels"),
            std::string::npos)
      << lowbit_emulator_last_error();
}

TEST_F(Emulator, ThreadsOfTheHost) {
  std::vector<std::thread> threads;
  std::vector<int> good(4);
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      std::vector<uint32_t> out(256);
      bool right = true;
      for (int repeat = 0; repeat < 10; ++repeat) {
        right &= run("mirror", {write(out), number(1)}, 256, repeat) == LOWBIT_OK;
        for (uint32_t j = 0; j < 256; ++j)
          right &= out[j] == (255 - j) * 3;
      }
      good[i] = right;
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(good, std::vector<int>(4, 1));
}
