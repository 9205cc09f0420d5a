//===- Json.h - JSON from files that may be damaged -------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_JSON_H
#define LOWBIT_LIB_RUNTIME_JSON_H

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lowbit::runtime {

using Json = nlohmann::json;

/// Parses one JSON object. Nothing, with the reason in `error`, for anything else; deep nesting
/// is refused before memory is spent on it. May throw std::bad_alloc only.
std::optional<Json> parseJsonObject(std::string_view text, std::string &error);

/// The member `key`, or null where `object` has none. Never throws.
const Json *member(const Json &object, const char *key);

/// The value where it is an integer that int64_t holds.
std::optional<int64_t> integer(const Json &value);

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_JSON_H
