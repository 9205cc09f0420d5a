//===- CalibrationTest.cpp - calibration files written, read and damaged ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Recipe/Calibration.h"
#include "gtest/gtest.h"
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <random>

using namespace lowbit;

namespace {
class CalibrationTest : public testing::Test {
protected:
  std::string path = testing::TempDir() + "calibration-test.lbcal";
  void TearDown() override { std::remove(path.c_str()); }

  Calibration sample() {
    Calibration calibration;
    calibration.modelSha256 = "m";
    calibration.recipeSha256 = "r";
    calibration.samples = 3;
    calibration.ranges["conv1:input"] = {-1.5f, 2.0f, 12};
    calibration.ranges["a/b:input"] = {0.0f, 0.0f, 7};
    return calibration;
  }
  std::string bytes() {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void put(const std::string &content) {
    std::ofstream(path, std::ios::binary).write(content.data(), content.size());
  }
  /// The one-line reason why the file is refused.
  std::string refused() {
    std::string error;
    EXPECT_FALSE(Calibration::read(path, error).has_value());
    EXPECT_FALSE(error.empty());
    EXPECT_EQ(error.find('\n'), std::string::npos);
    return error;
  }
};
} // namespace

TEST_F(CalibrationTest, ReadsWhatItWrote) {
  std::string error;
  ASSERT_TRUE(sample().write(path, error)) << error;
  std::optional<Calibration> read = Calibration::read(path, error);
  ASSERT_TRUE(read) << error;
  EXPECT_EQ(read->modelSha256, "m");
  EXPECT_EQ(read->recipeSha256, "r");
  EXPECT_EQ(read->method, "minmax");
  EXPECT_EQ(read->samples, 3);
  ASSERT_EQ(read->ranges.size(), 2u);
  EXPECT_EQ(read->ranges["conv1:input"].min, -1.5f);
  EXPECT_EQ(read->ranges["conv1:input"].max, 2.0f);
  EXPECT_EQ(read->ranges["conv1:input"].count, 12);
  std::string first = bytes();
  ASSERT_TRUE(sample().write(path, error)) << error;
  EXPECT_EQ(bytes(), first) << "the same content gives the same bytes";
}

TEST_F(CalibrationTest, RefusesRangesThatAreNotFinite) {
  std::string error;
  Calibration calibration = sample();
  calibration.ranges["conv1:input"].max = std::numeric_limits<float>::infinity();
  ASSERT_TRUE(calibration.write(path, error)) << error;
  EXPECT_NE(refused().find("'conv1:input'"), std::string::npos);
  calibration.ranges["conv1:input"] = {1.0f, -1.0f, 1};
  ASSERT_TRUE(calibration.write(path, error)) << error;
  EXPECT_NE(refused().find("'conv1:input'"), std::string::npos);
}

TEST_F(CalibrationTest, RefusesDamagedFiles) {
  std::string error;
  ASSERT_TRUE(sample().write(path, error)) << error;
  std::string whole = bytes();
  for (size_t length : {size_t(0), size_t(7), size_t(100), size_t(4096), whole.size() - 1}) {
    put(whole.substr(0, length));
    refused();
  }
  std::mt19937 random(0);
  std::string noise(5000, '\0');
  for (char &byte : noise)
    byte = char(random());
  put(noise);
  refused();
  // A flipped byte is found or harmless, never a crash.
  for (int i = 0; i < 300; ++i) {
    std::string flipped = whole;
    flipped[random() % flipped.size()] ^= char(1 << random() % 8);
    put(flipped);
    (void)Calibration::read(path, error);
  }
  std::remove(path.c_str());
  EXPECT_NE(refused().find("No such file"), std::string::npos);
}
