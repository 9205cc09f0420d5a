//===- TestLayer.h - a random quantized layer and what it must compute ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TEST_INTEGRATION_CUDA_TESTLAYER_H
#define LOWBIT_TEST_INTEGRATION_CUDA_TESTLAYER_H

#include "EmulatedModule.h"
#include "lowbit/Numerics/RTN.h"
#include "lowbit/Numerics/Reference.h"
#include <optional>
#include <random>

namespace lowbit::test {

/// An integer layer of given shape with random parameters that use the whole range of its results.
struct IntegerLayer {
  IntType input = IntType::U8;
  std::optional<IntType> output = IntType::U8; // None: f32.
  bool relu = false;
  int64_t n = 0, k = 0;            // linear
  std::optional<Conv2dShape> conv; // or convolution
  bool perTensor = false;
  unsigned seed = 1;

  /// Draws everything that is not given.
  void draw();
  std::string text(bool dynamic) const;
  Tensor randomInput(int64_t rowsOrBatch) const;
  Tensor expected(const Tensor &input) const;

  std::vector<int8_t> weights;
  std::vector<float> scales;
  std::vector<int32_t> bias;
  float inputScale = 0.02f, outputScale = 0.1f;
  int32_t inputZero = 0, outputZero = 0;
};

/// The IR of a layer: constants in hexadecimal, one argument, one result.
std::string denseText(const std::string &type, const void *data, size_t bytes);

} // namespace lowbit::test

#endif // LOWBIT_TEST_INTEGRATION_CUDA_TESTLAYER_H
