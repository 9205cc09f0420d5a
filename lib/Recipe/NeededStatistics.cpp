//===- NeededStatistics.cpp - what a recipe must know of a layer's input ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Recipe/NeededStatistics.h"

using namespace lowbit;

NeededStatistics lowbit::neededStatistics(const Recipe &recipe, const Rule *rule) {
  NeededStatistics needed;
  if (!rule || !rule->weights)
    return needed;
  needed.range = rule->activations && rule->activations->dynamic.empty();
  // Algorithms that round weights on data see the inputs themselves (driver's sequential
  // quantization), so they ask for nothing here.
  for (const GraphTransform &transform : recipe.transforms) {
    // SmoothQuant moves the range of activations that are quantized, also when the model runs.
    if (transform.name == "smooth")
      needed.channels |= rule->activations.has_value();
    // AWQ's scales and the shift that rounded weights cause depend on every input's channels.
    if (transform.name == "awq" || transform.name == "bias-correction")
      needed.channels = true;
  }
  return needed;
}
