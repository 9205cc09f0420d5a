//===- Text.cpp - text that is safe to print --------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Runtime/Text.h"

#include <cstdint>
#include <cstring>

namespace lowbit {

/// Bytes of the character at `text`; 0 where it is none. Stops at a zero byte.
static size_t characterBytes(const char *text) {
  auto byte = [&](size_t i) { return uint32_t(static_cast<unsigned char>(text[i])); };
  if (byte(0) < 0x80)
    return 1;
  size_t length = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4)
    return 0;
  uint32_t value = byte(0) & (0x7f >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80)
      return 0;
    value = value << 6 | (byte(i) & 0x3f);
  }
  // Overlong forms, surrogates and what lies beyond Unicode.
  constexpr uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  bool ok = value >= smallest[length] && value <= 0x10ffff && (value < 0xd800 || value > 0xdfff);
  return ok ? length : 0;
}

void copyPrintable(const char *text, char *target, size_t capacity) noexcept {
  size_t size = 0;
  while (*text) {
    size_t bytes = characterBytes(text);
    size_t taken = bytes == 0 ? 1 : bytes;
    if (size + taken >= capacity)
      break;
    if (bytes == 0)
      target[size] = '?';
    else if (static_cast<unsigned char>(*text) < 0x20 || *text == 0x7f)
      target[size] = ' ';
    else
      std::memcpy(target + size, text, bytes);
    size += taken;
    text += taken;
  }
  target[size] = 0;
}

std::string printable(const std::string &text) {
  std::string result(text.size() + 1, '\0');
  copyPrintable(text.c_str(), result.data(), result.size());
  result.resize(std::strlen(result.c_str()));
  return result;
}

} // namespace lowbit
