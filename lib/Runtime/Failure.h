//===- Failure.h - errors inside the runtime --------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Inside the runtime an error is thrown as a Failure; the C functions turn it into a
// status and the text of lowbit_last_error(). No exception crosses the C boundary or
// passes through a model's code.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_FAILURE_H
#define LOWBIT_LIB_RUNTIME_FAILURE_H

#include "lowbit-c/Runtime.h"

#include <cstdint>
#include <new>
#include <string>

namespace lowbit::runtime {

struct Failure {
  lowbit_status status;
  std::string message;
};

[[noreturn]] void fail(lowbit_status status, std::string message);

/// Sets the text of lowbit_last_error() of this thread, made one line and cut to a fixed length;
/// allocates nothing.
void setLastError(const char *message) noexcept;

/// Calls `body` and returns what became of it.
template <typename Body>
lowbit_status guarded(Body &&body) noexcept {
  try {
    body();
    return LOWBIT_OK;
  } catch (const Failure &failure) {
    setLastError(failure.message.c_str());
    return failure.status;
  } catch (const std::bad_alloc &) {
    setLastError("out of memory");
    return LOWBIT_NO_MEMORY;
  } catch (...) {
    setLastError("internal error of the runtime");
    return LOWBIT_INTERNAL;
  }
}

/// 'text' in quotes with control characters replaced, for messages.
std::string inQuotes(const std::string &text);

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_FAILURE_H
