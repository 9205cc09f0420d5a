//===- YamlTree.cpp - a YAML document as a checked tree ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "YamlTree.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/YAMLParser.h"
#include <algorithm>

using namespace lowbit;
using llvm::StringRef;

const YamlNode *YamlNode::find(StringRef key) const {
  for (const auto &[name, value] : entries)
    if (name.scalar == key)
      return &value;
  return nullptr;
}

std::string YamlNode::describe() const {
  switch (kind) {
  case Kind::Null:
    return "nothing";
  case Kind::Scalar:
    return "'" + scalar + "'";
  case Kind::List:
    return "a list";
  case Kind::Map:
    return "a mapping";
  }
  return "";
}

std::string lowbit::located(StringRef file, const YamlNode &node, const llvm::Twine &message) {
  return (file + ":" + llvm::Twine(node.line) + ":" + llvm::Twine(node.column) + ": " + message)
      .str();
}

std::string lowbit::suggest(StringRef word, llvm::ArrayRef<StringRef> known) {
  StringRef best;
  unsigned bestDistance = std::max<size_t>(2, word.size() / 3) + 1;
  for (StringRef candidate : known) {
    unsigned distance = word.edit_distance(candidate, true, bestDistance);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best.empty() ? "" : ("; did you mean '" + best + "'?").str();
}

std::string lowbit::choices(llvm::ArrayRef<StringRef> known) {
  std::string text;
  for (size_t i = 0; i < known.size(); ++i)
    text += (i == 0 ? "" : i + 1 == known.size() ? " or " : ", ") + known[i].str();
  return text;
}

namespace {
struct TreeBuilder {
  llvm::SourceMgr sources;
  StringRef file;
  std::string error;

  void setError(const YamlNode &at, const llvm::Twine &message) {
    if (error.empty())
      error = located(file, at, message);
  }
  void locate(YamlNode &tree, llvm::yaml::Node &node) {
    auto [line, column] = sources.getLineAndColumn(node.getSourceRange().Start);
    tree.line = line;
    tree.column = column;
  }
  YamlNode convert(llvm::yaml::Node *node, unsigned depth);
  void convertMap(llvm::yaml::MappingNode &map, YamlNode &tree, unsigned depth);
};
} // namespace

void TreeBuilder::convertMap(llvm::yaml::MappingNode &map, YamlNode &tree, unsigned depth) {
  for (llvm::yaml::KeyValueNode &entry : map) {
    YamlNode key = convert(entry.getKey(), depth);
    if (!error.empty())
      return;
    if (key.kind != YamlNode::Kind::Scalar)
      return setError(key.line ? key : tree, "expected a key, found " + key.describe());
    if (tree.find(key.scalar))
      return setError(key, "key '" + key.scalar + "' is repeated");
    YamlNode value = convert(entry.getValue(), depth);
    if (!error.empty())
      return;
    if (value.line == 0)
      std::tie(value.line, value.column) = std::make_pair(key.line, key.column);
    tree.entries.emplace_back(std::move(key), std::move(value));
  }
}

YamlNode TreeBuilder::convert(llvm::yaml::Node *node, unsigned depth) {
  YamlNode tree;
  if (!node || !error.empty())
    return tree;
  locate(tree, *node);
  if (depth > 32) {
    setError(tree, "nested too deeply");
    return tree;
  }
  llvm::SmallString<64> storage;
  if (auto *scalar = llvm::dyn_cast<llvm::yaml::ScalarNode>(node)) {
    tree.kind = YamlNode::Kind::Scalar;
    tree.scalar = scalar->getValue(storage).str();
  } else if (auto *list = llvm::dyn_cast<llvm::yaml::SequenceNode>(node)) {
    tree.kind = YamlNode::Kind::List;
    for (llvm::yaml::Node &item : *list) {
      tree.items.push_back(convert(&item, depth + 1));
      if (!error.empty())
        break;
    }
  } else if (auto *map = llvm::dyn_cast<llvm::yaml::MappingNode>(node)) {
    tree.kind = YamlNode::Kind::Map;
    convertMap(*map, tree, depth + 1);
  } else if (!llvm::isa<llvm::yaml::NullNode>(node)) {
    setError(tree, "aliases and block text are not part of this format");
  }
  return tree;
}

std::optional<YamlNode> lowbit::parseYaml(StringRef text, StringRef file, std::string &error) {
  TreeBuilder builder;
  builder.file = file;
  builder.sources.setDiagHandler(
      [](const llvm::SMDiagnostic &diagnostic, void *context) {
        auto &builder = *static_cast<TreeBuilder *>(context);
        YamlNode at;
        at.line = std::max(diagnostic.getLineNo(), 1);
        at.column = diagnostic.getColumnNo() + 1;
        builder.setError(at, diagnostic.getMessage());
      },
      &builder);
  if (text.contains('\0')) {
    error = (file + ":1:1: not a text file").str();
    return std::nullopt;
  }
  llvm::yaml::Stream stream(text, builder.sources, /*ShowColors=*/false);
  llvm::yaml::document_iterator document = stream.begin();
  YamlNode tree;
  if (document != stream.end()) {
    tree = builder.convert(document->getRoot(), 0);
    if (builder.error.empty() && !stream.failed() && ++document != stream.end())
      builder.setError(tree, "expected one document");
  }
  if (builder.error.empty() && stream.failed())
    builder.error = (file + ":1:1: not a YAML file").str();
  if (builder.error.empty())
    return tree;
  error = builder.error;
  return std::nullopt;
}
