//===- lowbit/Runtime/Text.h - text that is safe to print ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_RUNTIME_TEXT_H
#define LOWBIT_RUNTIME_TEXT_H

#include <cstddef>
#include <string>

namespace lowbit {

/// Copies text to `target` so that it is one line of valid UTF-8: control characters become
/// spaces, bytes that are no UTF-8 become '?', and what exceeds `capacity` (which counts the final
/// zero and is at least 1) is cut between characters. Allocates nothing.
void copyPrintable(const char *text, char *target, size_t capacity) noexcept;

/// The same, of any length.
std::string printable(const std::string &text);

} // namespace lowbit

#endif // LOWBIT_RUNTIME_TEXT_H
