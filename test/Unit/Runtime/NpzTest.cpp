//===- NpzTest.cpp - arrays read and written by lowbit-run ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Npz.h"
#include "Npy.h"
#include "TestBundle.h"

#include "gtest/gtest.h"

#include <cstring>
#include <filesystem>
#include <random>

using namespace lowbit::tool;
using lowbit::test::readFile;
using lowbit::test::temporaryFolder;
using lowbit::test::writeFile;

/// The file of version 1 with this header text.
static std::string npy(std::string text) {
  std::string file("\x93NUMPY\x01\x00", 8);
  file += char(text.size() & 255);
  file += char(text.size() >> 8);
  return file + text;
}

TEST(Npy, ReadsWhatNumpyWrites) {
  NpyHeader header;
  std::string error;
  ASSERT_TRUE(parseNpyHeader(
      npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }      \n"), header, error))
      << error;
  EXPECT_EQ(header.dtype, LOWBIT_F32);
  EXPECT_TRUE(header.columnMajor);
  EXPECT_EQ(header.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(header.bytes, 24);
  ASSERT_TRUE(parseNpyHeader(npy("{'descr': '|b1', 'fortran_order': False, 'shape': (7,), }"),
                             header, error));
  EXPECT_EQ(header.dtype, LOWBIT_BOOL);
  ASSERT_TRUE(
      parseNpyHeader(npy("{'shape': (), 'fortran_order': False, 'descr': '<i8'}"), header, error));
  EXPECT_EQ(header.bytes, 8);
}

TEST(Npy, WritesWhatItReads) {
  for (int32_t rank = 0; rank <= 3; ++rank) {
    int64_t shape[] = {2, 0, 5};
    std::string text = npyHeader(LOWBIT_I64, shape, rank), error;
    EXPECT_EQ(text.size() % 64, 0u);
    EXPECT_EQ(npyDataOffset(text.substr(0, npyPrefixBytes), error), text.size());
    NpyHeader header;
    ASSERT_TRUE(parseNpyHeader(text, header, error)) << error;
    EXPECT_EQ(header.shape, std::vector<int64_t>(shape, shape + rank));
  }
}

TEST(Npy, Refuses) {
  NpyHeader header;
  std::string error;
  for (const char *text :
       {"", "{", "{}", "{'descr': '<f4'}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2) }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,) }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,) }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296) }",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,) }",
        "{'descr': '>f4', 'fortran_order': False, 'shape': (2,) }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,) }",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,) }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 'x' }",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,) }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1) }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,) } x"}) {
    error.clear();
    EXPECT_FALSE(parseNpyHeader(npy(text), header, error)) << text;
    EXPECT_NE(error, "");
  }
  EXPECT_EQ(npyDataOffset("\x93NUMPY", error), 0u);
  EXPECT_EQ(npyDataOffset(std::string("\x93NUMPY\x09\x00ab..", 11), error), 0u);
}

namespace {
struct NpzFile : testing::Test {
  void SetUp() override {
    path = temporaryFolder() + "lowbit-test.npz";
    std::filesystem::remove(path);
    a.data = values;
    a.dtype = LOWBIT_F32;
    a.rank = 2;
    a.shape[0] = 2;
    a.shape[1] = 3;
  }
  std::string path;
  float values[6] = {1, 2, 3, 4, 5, 6};
  lowbit_tensor a = {};
};
} // namespace

TEST_F(NpzFile, RoundTrip) {
  lowbit_tensor empty = a;
  empty.shape[0] = 0;
  writeNpz(path, {{"a/b", &a}, {"empty", &empty}}, false);
  std::vector<Array> arrays = readNpz(path);
  ASSERT_EQ(arrays.size(), 2u);
  EXPECT_EQ(arrays[0].name, "a/b");
  EXPECT_EQ(memcmp(arrays[0].data.get(), values, sizeof values), 0);
  EXPECT_EQ(arrays[0].tensor().strides[0], 3);
  EXPECT_EQ(arrays[1].shape, (std::vector<int64_t>{0, 3}));
  std::string bytes = readFile(path);
  EXPECT_THROW(writeNpz(path, {}, false), Error);
  EXPECT_EQ(readFile(path), bytes);
  values[0] = 9;
  writeNpz(path, {{"a/b", &a}, {"empty", &empty}}, true);
  EXPECT_NE(readFile(path), bytes);
  values[0] = 1;
  writeNpz(path, {{"a/b", &a}, {"empty", &empty}}, true);
  EXPECT_EQ(readFile(path), bytes);
}

TEST_F(NpzFile, Damage) {
  writeNpz(path, {{"a", &a}, {"b", &a}}, false);
  std::string whole = readFile(path);
  std::mt19937 random(9);
  for (int i = 0; i < 2000; ++i) {
    std::string text = whole;
    if (i % 3 == 0)
      text.resize(random() % text.size());
    else
      text[random() % text.size()] = char(random());
    writeFile(path, text);
    try {
      for (const Array &array : readNpz(path))
        if (array.shape == std::vector<int64_t>{2, 3} && array.dtype == LOWBIT_F32)
          EXPECT_EQ(memcmp(array.data.get(), values, sizeof values), 0);
    } catch (const Error &error) {
      EXPECT_EQ(error.code, LOWBIT_INVALID) << error.message;
    }
  }
}
