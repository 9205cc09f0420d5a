//===- Rounding.h - a recipe's weight rule as options of the algorithm ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_RECIPE_ROUNDING_H
#define LOWBIT_RECIPE_ROUNDING_H

#include "lowbit/Numerics/RoundWeights.h"
#include "lowbit/Recipe/Recipe.h"

namespace lowbit {

/// Whether the algorithm rounds by what the layer's input is like: it then runs layer by layer on
/// data (SequentialQuantizer), or on moments in IR.
bool needsMoments(WeightAlgorithm algorithm);

/// What recipes call the algorithms ("gptq"), in the order of WeightAlgorithm.
ArrayRef<StringRef> algorithmNames();
StringRef algorithmName(WeightAlgorithm algorithm);

/// What a rule asks of roundWeights().
RoundingOptions roundingOptions(const WeightRule &rule);

} // namespace lowbit

#endif // LOWBIT_RECIPE_ROUNDING_H
