//===- Failure.cpp - errors inside the runtime ------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Failure.h"

#include <algorithm>
#include <cstring>

namespace lowbit::runtime {

static thread_local char lastError[1024] = "no error";

void fail(lowbit_status status, std::string message) { throw Failure{status, std::move(message)}; }

void setLastError(const char *message) noexcept {
  size_t length = std::min(std::strlen(message), sizeof lastError - 1);
  for (size_t i = 0; i < length; ++i)
    lastError[i] = static_cast<unsigned char>(message[i]) < 0x20 ? ' ' : message[i];
  lastError[length] = 0;
}

std::string inQuotes(const std::string &text) {
  std::string result = "'";
  for (char c : text)
    result += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  return result + "'";
}

} // namespace lowbit::runtime

extern "C" const char *lowbit_last_error(void) { return lowbit::runtime::lastError; }
