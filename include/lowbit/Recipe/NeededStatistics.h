//===- NeededStatistics.h - what a recipe must know of a layer's input ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_RECIPE_NEEDEDSTATISTICS_H
#define LOWBIT_RECIPE_NEEDEDSTATISTICS_H

#include "lowbit/Recipe/Recipe.h"

namespace lowbit {

/// What must be known of the input of a layer.
struct NeededStatistics {
  bool range = false;    ///< Of all values: the layer's activations get a scale from it.
  bool channels = false; ///< Of each channel: a transform weighs channels by it.
  bool any() const { return range || channels; }
};

/// For a layer that `rule` takes (null: none does). Layers that look rows up need nothing.
NeededStatistics neededStatistics(const Recipe &recipe, const Rule *rule);

} // namespace lowbit

#endif // LOWBIT_RECIPE_NEEDEDSTATISTICS_H
