//===- TextTest.cpp - messages are one line of UTF-8 ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Runtime/Text.h"

#include "gtest/gtest.h"

using namespace lowbit;

TEST(Text, Printable) {
  EXPECT_EQ(printable("a\nb\tc\x7f"), "a b c ");
  EXPECT_EQ(printable("über … 𝄞"), "über … 𝄞");
  EXPECT_EQ(printable("\xff\xc1\xbf"), "???");
  EXPECT_EQ(printable("\xe2\x80"), "??");                // cut short
  EXPECT_EQ(printable("\xc0\xaf\xe0\x80\xaf"), "?????"); // overlong
  EXPECT_EQ(printable("\xed\xa0\x80"), "???");           // a surrogate
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "????");      // beyond Unicode
  EXPECT_EQ(printable(""), "");
}

TEST(Text, CutsBetweenCharacters) {
  char small[4];
  copyPrintable("aüb", small, sizeof small);
  EXPECT_STREQ(small, "aü");
  copyPrintable("abü", small, sizeof small);
  EXPECT_STREQ(small, "ab");
  copyPrintable("ab", small, 1);
  EXPECT_STREQ(small, "");
}
