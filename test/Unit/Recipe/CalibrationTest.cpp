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
    calibration.measured = "transforms: []\n";
    calibration.samples = 3;
    calibration.data = *DataDigest::parse(std::string(63, '0') + "7");
    std::mt19937 random(1);
    std::normal_distribution<float> value;
    std::vector<float> x(3 * 4 * 25);
    for (float &v : x)
      v = value(random);
    calibration.observers["conv1:input"] = observed(1, {3, 4, 5, 5}, x);
    calibration.observers["a/b:input"] = observed(-1, {3, 2}, {0, 0, 0, 0, 0, 0});
    return calibration;
  }
  static TensorObserver observed(int axis, std::vector<int64_t> shape, std::vector<float> values) {
    TensorObserver observer(axis);
    EXPECT_TRUE(observer.observe(values.data(), int64_t(shape.size()), shape.data()));
    return observer;
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
  EXPECT_EQ(read->measured, "transforms: []\n");
  EXPECT_EQ(read->samples, 3);
  EXPECT_EQ(read->data, sample().data);
  ASSERT_EQ(read->observers.size(), 2u);
  const TensorObserver &seen = read->observers["conv1:input"],
                       expected = sample().observers["conv1:input"];
  EXPECT_EQ(seen.range.min(), expected.range.min());
  EXPECT_EQ(seen.range.max(), expected.range.max());
  EXPECT_EQ(seen.range.count(), 300);
  EXPECT_EQ(seen.rows, 3);
  EXPECT_EQ(seen.averageMin(), expected.averageMin());
  EXPECT_EQ(seen.histogram.entries(), expected.histogram.entries());
  EXPECT_EQ(seen.channels.count, 75);
  EXPECT_EQ(seen.channels.min, expected.channels.min);
  EXPECT_EQ(seen.channels.sum, expected.channels.sum);
  EXPECT_EQ(seen.channels.absoluteSum, expected.channels.absoluteSum);
  // What was read goes on as what was written.
  EXPECT_TRUE(read->merge(sample(), error)) << error;
  EXPECT_EQ(read->samples, 6);
  EXPECT_EQ(read->observers["conv1:input"].rows, 6);
  std::string first = bytes();
  ASSERT_TRUE(sample().write(path, error)) << error;
  EXPECT_EQ(bytes(), first) << "the same content gives the same bytes";
}

TEST_F(CalibrationTest, RefusesRangesThatAreNotFinite) {
  std::string error;
  Calibration calibration = sample();
  TensorObserver &observer = calibration.observers["conv1:input"];
  observer.range.add(0, std::numeric_limits<float>::infinity(), 0);
  ASSERT_TRUE(calibration.write(path, error)) << error;
  EXPECT_NE(refused().find("'conv1:input'"), std::string::npos);
}

TEST_F(CalibrationTest, RefusesCountsThatDoNotAddUp) {
  std::string error;
  Calibration calibration = sample();
  calibration.observers["conv1:input"].histogram.add(Histogram::keyOf(0.5f), 1);
  ASSERT_TRUE(calibration.write(path, error)) << error;
  EXPECT_NE(refused().find("do not add up to 300"), std::string::npos);
  calibration = sample();
  calibration.observers["conv1:input"].channels.max[2] = 1e9f;
  ASSERT_TRUE(calibration.write(path, error)) << error;
  EXPECT_NE(refused().find("impossible statistics of channel 2"), std::string::npos);
}

TEST_F(CalibrationTest, WhatNoSampleReachesIsLeftOut) {
  std::string error;
  Calibration calibration = sample();
  calibration.observers.emplace("branch:input", TensorObserver());
  ASSERT_TRUE(calibration.write(path, error)) << error;
  EXPECT_EQ(Calibration::read(path, error)->observers.size(), 2u);
}

TEST_F(CalibrationTest, MergeChecksWhereItComesFrom) {
  std::string error;
  Calibration whole = sample(), other = sample();
  other.modelSha256 = "n";
  EXPECT_FALSE(whole.merge(other, error));
  EXPECT_NE(error.find("another model"), std::string::npos);
  other = sample();
  other.recipeSha256 = "s";
  EXPECT_FALSE(whole.merge(other, error));
  EXPECT_NE(error.find("other transforms"), std::string::npos);
  other = sample();
  other.observers.erase("conv1:input");
  EXPECT_FALSE(whole.merge(other, error));
  EXPECT_NE(error.find("lacks 'conv1:input'"), std::string::npos);
  EXPECT_EQ(whole.samples, 3) << "nothing has changed";
}

TEST(DataDigest, IsASum) {
  std::string ones(64, 'f'), one = std::string(63, '0') + "1";
  DataDigest sum = *DataDigest::parse(ones);
  sum.merge(*DataDigest::parse(one));
  EXPECT_EQ(sum.str(), std::string(64, '0'));
  DataDigest a = *DataDigest::parse(std::string(32, '0') + std::string(32, 'f'));
  a.merge(*DataDigest::parse(one));
  EXPECT_EQ(a.str(), std::string(31, '0') + "1" + std::string(32, '0'));
  EXPECT_FALSE(DataDigest::parse("12"));
  EXPECT_FALSE(DataDigest::parse(std::string(64, 'g')));
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
