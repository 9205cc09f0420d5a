//===- lowbit/Numerics/Scheme.h - integer types and how scales are shared ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_NUMERICS_SCHEME_H
#define LOWBIT_NUMERICS_SCHEME_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lowbit {

/// The integer types that a tensor can be quantized to. The names in recipes and manifests are
/// the lower-case spellings ("i8", "u4", …).
enum class IntType : uint8_t { I8, U8, I4, U4, I3, U3, I16, U16, I32 };

/// Width in bits; the storage may be wider (see Pack.h).
constexpr unsigned bitWidth(IntType type) {
  switch (type) {
  case IntType::I3:
  case IntType::U3:
    return 3;
  case IntType::I4:
  case IntType::U4:
    return 4;
  case IntType::I8:
  case IntType::U8:
    return 8;
  case IntType::I16:
  case IntType::U16:
    return 16;
  case IntType::I32:
    return 32;
  }
  return 0;
}

constexpr bool isSigned(IntType type) {
  return type != IntType::U8 && type != IntType::U4 && type != IntType::U3 && type != IntType::U16;
}

/// Smallest and largest representable value, e.g. -8 and 7 for i4.
constexpr int64_t minValue(IntType type) {
  return isSigned(type) ? -(int64_t(1) << (bitWidth(type) - 1)) : 0;
}
constexpr int64_t maxValue(IntType type) {
  return (int64_t(1) << (bitWidth(type) - (isSigned(type) ? 1 : 0))) - 1;
}

/// "i8", "u4", …
const char *name(IntType type);
/// The inverse of name(); nothing for an unknown name.
std::optional<IntType> parseIntType(std::string_view name);

/// How one weight matrix [rows, cols] is quantized; cols is the reduction axis K.
struct Scheme {
  /// Which weights share a scale and zero point: all, one row (output channel), or `group`
  /// consecutive elements of a row; the last group of a row may be partial.
  enum class Granularity : uint8_t { Tensor, Channel, Group };

  IntType type = IntType::I8;
  Granularity granularity = Granularity::Tensor;
  /// Elements along K that share a scale; > 0 for Group, otherwise unused (0).
  int64_t group = 0;
  /// Zero point fixed (0 for signed types, 2^(bits-1) for unsigned ones).
  bool symmetric = true;
};

bool operator==(const Scheme &a, const Scheme &b);
inline bool operator!=(const Scheme &a, const Scheme &b) { return !(a == b); }

/// For messages: "i4 group 128 asymmetric".
std::string str(const Scheme &scheme);

} // namespace lowbit

#endif // LOWBIT_NUMERICS_SCHEME_H
