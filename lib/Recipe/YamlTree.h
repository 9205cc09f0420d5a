//===- YamlTree.h - a YAML document as a checked tree -----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The whole document at once, each node with its place: errors can name line and
// column, and keys can be looked up in any order.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RECIPE_YAMLTREE_H
#define LOWBIT_LIB_RECIPE_YAMLTREE_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lowbit {

struct YamlNode {
  enum class Kind { Null, Scalar, List, Map };
  Kind kind = Kind::Null;
  std::string scalar;
  std::vector<YamlNode> items;
  std::vector<std::pair<YamlNode, YamlNode>> entries; ///< Keys are scalars, each once.
  unsigned line = 0, column = 0;                      ///< From 1.

  const YamlNode *find(llvm::StringRef key) const;
  /// "a list", "a mapping", "'text'": for messages.
  std::string describe() const;
};

/// The one document in `text`. Nothing for text that is not YAML, has more than one document,
/// aliases, repeated keys or more than 32 levels; `error` then says where and why.
std::optional<YamlNode> parseYaml(llvm::StringRef text, llvm::StringRef file, std::string &error);

/// `file:line:column: message`.
std::string located(llvm::StringRef file, const YamlNode &node, const llvm::Twine &message);

/// "; did you mean 'x'?" where one of `known` is close to `word`, else empty.
std::string suggest(llvm::StringRef word, llvm::ArrayRef<llvm::StringRef> known);

/// "a, b or c".
std::string choices(llvm::ArrayRef<llvm::StringRef> known);

} // namespace lowbit

#endif // LOWBIT_LIB_RECIPE_YAMLTREE_H
