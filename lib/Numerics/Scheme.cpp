//===- Scheme.cpp - names of integer types and schemes ----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Scheme.h"

namespace lowbit {

static constexpr IntType allTypes[] = {IntType::I8,  IntType::U8,  IntType::I4,
                                       IntType::U4,  IntType::I3,  IntType::U3,
                                       IntType::I16, IntType::U16, IntType::I32};

const char *name(IntType type) {
  switch (type) {
  case IntType::I8:
    return "i8";
  case IntType::U8:
    return "u8";
  case IntType::I4:
    return "i4";
  case IntType::U4:
    return "u4";
  case IntType::I3:
    return "i3";
  case IntType::U3:
    return "u3";
  case IntType::I16:
    return "i16";
  case IntType::U16:
    return "u16";
  case IntType::I32:
    return "i32";
  }
  return "";
}

std::optional<IntType> parseIntType(std::string_view text) {
  for (IntType type : allTypes)
    if (text == name(type))
      return type;
  return std::nullopt;
}

bool operator==(const Scheme &a, const Scheme &b) {
  return a.type == b.type && a.granularity == b.granularity && a.symmetric == b.symmetric &&
         (a.granularity != Scheme::Granularity::Group || a.group == b.group);
}

std::string str(const Scheme &scheme) {
  std::string text = name(scheme.type);
  switch (scheme.granularity) {
  case Scheme::Granularity::Tensor:
    text += " per tensor";
    break;
  case Scheme::Granularity::Channel:
    text += " per channel";
    break;
  case Scheme::Granularity::Group:
    text += " group " + std::to_string(scheme.group);
    break;
  }
  return text + (scheme.symmetric ? " symmetric" : " asymmetric");
}

} // namespace lowbit
