//===- WeightOnlyLayer.h - a layer of float activations and integer weights ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TEST_INTEGRATION_CUDA_WEIGHTONLYLAYER_H
#define LOWBIT_TEST_INTEGRATION_CUDA_WEIGHTONLYLAYER_H

#include "TestLayer.h"

namespace lowbit::test {

/// Random weights, rounded by `scheme`.
struct WeightOnlyLayer {
  Scheme scheme;
  int64_t n = 0, k = 0;
  std::optional<Conv2dShape> conv;
  bool bias = true, relu = false;
  unsigned seed = 1;

  QuantizedWeights weights;
  std::vector<float> biases;

  void draw();
  std::string text() const;
  /// [rows, k], or the images of a convolution.
  Tensor randomInput(int64_t rowsOrBatch) const;
  /// The largest error of `got` as a multiple of what f16 activations and f32 sums may cost; 1e9
  /// where something is not finite or the size is wrong.
  double worstError(const Tensor &input, const Tensor &got) const;
};

} // namespace lowbit::test

#endif // LOWBIT_TEST_INTEGRATION_CUDA_WEIGHTONLYLAYER_H
