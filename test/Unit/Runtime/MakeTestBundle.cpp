//===- MakeTestBundle.cpp - writes the test bundle for other tests ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "TestBundle.h"

#include <cstdio>

int main(int argc, char **argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  std::string error = lowbit::test::writeTestBundle(argv[1]);
  if (!error.empty())
    std::fprintf(stderr, "error: %s\n", error.c_str());
  return error.empty() ? 0 : 5;
}
