//===- NamedRecipes.cpp - the recipes and the schema that are built in ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Recipe/Recipe.h"
#include "llvm/ADT/StringSwitch.h"

using namespace lowbit;

// Written by CMake from recipes/*.yaml and recipe.schema.json: `embeddedRecipes`, pairs of a name
// and the text, and `embeddedSchema`.
#include "EmbeddedRecipes.inc"

ArrayRef<StringRef> Recipe::namedRecipes() {
  static const std::vector<StringRef> names = [] {
    std::vector<StringRef> names;
    for (const auto &[name, text] : embeddedRecipes)
      names.push_back(name);
    return names;
  }();
  return names;
}

StringRef Recipe::namedRecipeText(StringRef name) {
  for (const auto &[known, text] : embeddedRecipes)
    if (name == known)
      return text;
  return "";
}

StringRef Recipe::jsonSchema() { return embeddedSchema; }
