//===- SafetensorsTest.cpp - weights and calibration files ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "TestBundle.h"

#include "lowbit/Runtime/Safetensors.h"
#include "lowbit/Runtime/Sha256.h"

#include "gtest/gtest.h"

#include <cstring>
#include <random>

using namespace lowbit;
using lowbit::test::readFile;
using lowbit::test::temporaryFolder;

static std::string file(const std::string &header, size_t dataBytes) {
  uint64_t length = header.size();
  std::string text(reinterpret_cast<const char *>(&length), 8);
  return text + header + std::string(dataBytes, 'x');
}

static std::optional<SafetensorsHeader> parse(const std::string &text, std::string &error) {
  return parseSafetensors(text.data(), text.size(), error);
}

TEST(Safetensors, RoundTrip) {
  std::string path = temporaryFolder() + "lowbit-test.safetensors", error;
  float a[3] = {1, 2, 3};
  int8_t b[2][2] = {{1, 2}, {3, 4}};
  int64_t count = 7;
  SafetensorsWriter writer;
  writer.setMetadata("format", "lowbit.calibration/1");
  EXPECT_EQ(writer.add("zeta/min", "F32", {3}, a, sizeof a), 0u);
  EXPECT_EQ(writer.add("b", "I8", {2, 2}, b, sizeof b), 64u);
  EXPECT_EQ(writer.add("empty", "F32", {0, 5}, nullptr, 0), 128u);
  EXPECT_EQ(writer.add("ünï\"code", "I64", {}, &count, 8), 128u);
  ASSERT_TRUE(writer.write(path, error)) << error;
  std::string text = readFile(path);
  auto header = parse(text, error);
  ASSERT_TRUE(header) << error;
  EXPECT_EQ(header->dataOffset, writer.dataOffset());
  EXPECT_EQ(header->dataOffset % 4096, 0u);
  EXPECT_EQ(header->metadata["format"], "lowbit.calibration/1");
  ASSERT_EQ(header->entries.size(), 4u);
  const SafetensorsEntry *entry = header->find("b");
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->begin, 64u);
  EXPECT_EQ(entry->shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(memcmp(text.data() + header->dataOffset + 64, b, 4), 0);
  EXPECT_TRUE(header->find("ünï\"code"));
  EXPECT_FALSE(header->find("missing"));
}

TEST(Safetensors, WriterRefuses) {
  std::string path = temporaryFolder() + "lowbit-refused.safetensors", error;
  float a[2] = {};
  SafetensorsWriter twice;
  twice.add("a", "F32", {2}, a, 8);
  twice.add("a", "F32", {2}, a, 8);
  EXPECT_FALSE(twice.write(path, error));
  SafetensorsWriter size;
  size.add("a", "F32", {3}, a, 8);
  EXPECT_FALSE(size.write(path, error));
  SafetensorsWriter ok;
  ok.add("a", "F32", {2}, a, 8);
  EXPECT_FALSE(ok.write(temporaryFolder() + "no/such/folder/x", error));
  EXPECT_EQ(readFile(path), "");
}

TEST(Safetensors, DamagedFiles) {
  std::string error;
  auto entry = [](const std::string &offsets, const std::string &shape = "[2]") {
    return "{\"a\":{\"dtype\":\"U8\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
  };
  EXPECT_TRUE(parse(file(entry("[0,2]"), 2), error)) << error;
  for (const std::string &text :
       {std::string(),
        std::string("1234567"),
        std::string(8, '\xff'),
        file("", 0),
        file("[]", 0),
        file("{", 0),
        file(std::string(100000, '['), 0),
        file(entry("[0,2]"), 1),
        file(entry("[0,3]"), 9),
        file(entry("[2,0]"), 9),
        file(entry("[-1,1]"), 9),
        file(entry("[0]"), 9),
        file(entry("\"x\""), 9),
        file(entry("[0,2]", "[-2]"), 9),
        file(entry("[0,2]", "[9223372036854775807,2]"), 9),
        file(entry("[0,1e400]"), 9),
        file("{\"a\":{\"dtype\":\"X8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1),
        file("{\"a\":3}", 1),
        file("{\"__metadata__\":{\"k\":3}}", 1),
        file("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
             "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
             3)}) {
    error.clear();
    EXPECT_FALSE(parse(text, error)) << text.substr(0, 200);
    EXPECT_NE(error, "");
  }
}

TEST(Safetensors, RandomDamage) {
  std::mt19937 random(8);
  std::string whole = file("{\"__metadata__\":{\"k\":\"v\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,"
                           "3],\"data_offsets\":[0,24]}}",
                           24);
  for (int i = 0; i < 20000; ++i) {
    std::string text = whole, error;
    text[random() % text.size()] = char(random());
    text.resize(random() % 4 ? text.size() : random() % text.size());
    auto header = parse(text, error);
    if (header)
      for (const SafetensorsEntry &e : header->entries)
        ASSERT_LE(header->dataOffset + e.end, text.size());
  }
}

TEST(Sha256, KnownDigests) {
  EXPECT_EQ(sha256("", 0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 pieces;
  pieces.update("a", 1);
  pieces.update("bc", 2);
  EXPECT_EQ(pieces.finish(), sha256("abc", 3));
}
