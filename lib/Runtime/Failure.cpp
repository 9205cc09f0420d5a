//===- Failure.cpp - errors inside the runtime ------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Failure.h"

#include "lowbit/Runtime/Text.h"

namespace lowbit::runtime {

static thread_local char lastError[1024] = "no error";

void fail(lowbit_status status, std::string message) { throw Failure{status, std::move(message)}; }

void setLastError(const char *message) noexcept {
  copyPrintable(message, lastError, sizeof lastError);
}

std::string inQuotes(const std::string &text) { return "'" + printable(text) + "'"; }

} // namespace lowbit::runtime

extern "C" const char *lowbit_last_error(void) { return lowbit::runtime::lastError; }
