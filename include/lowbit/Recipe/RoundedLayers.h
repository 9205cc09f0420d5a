//===- RoundedLayers.h - what sequential quantization decided ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_RECIPE_ROUNDEDLAYERS_H
#define LOWBIT_RECIPE_ROUNDEDLAYERS_H

#include "lowbit/Numerics/RTN.h"
#include <map>
#include <string>
#include <vector>

namespace lowbit {

/// One layer, rounded on data that had gone through the quantized layers before it.
struct RoundedLayer {
  QuantizedWeights weights; ///< [channels, K].
  /// What the layer's bias is to grow by, [channels]; empty for nothing.
  std::vector<float> biasShift;
};

/// By layer name. The driver fills it, lowbit-apply-recipe takes the weights from it.
using RoundedLayers = std::map<std::string, RoundedLayer>;

} // namespace lowbit

#endif // LOWBIT_RECIPE_ROUNDEDLAYERS_H
