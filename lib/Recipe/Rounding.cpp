//===- Rounding.cpp - a recipe's weight rule as options of the algorithm ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Recipe/Rounding.h"

using namespace lowbit;

bool lowbit::needsMoments(WeightAlgorithm algorithm) {
  return algorithm == WeightAlgorithm::GPTQ || algorithm == WeightAlgorithm::AWQ;
}

ArrayRef<StringRef> lowbit::algorithmNames() {
  static constexpr StringRef names[] = {"rtn", "mse", "gptq", "awq", "hqq"};
  return names;
}

StringRef lowbit::algorithmName(WeightAlgorithm algorithm) {
  return algorithmNames()[size_t(algorithm)];
}

RoundingOptions lowbit::roundingOptions(const WeightRule &rule) {
  RoundingOptions options;
  switch (rule.algorithm) {
  case WeightAlgorithm::RTN:
    options.algorithm = RoundingAlgorithm::RTN;
    break;
  case WeightAlgorithm::MSE:
    options.algorithm = RoundingAlgorithm::MSE;
    break;
  case WeightAlgorithm::GPTQ:
    options.algorithm = RoundingAlgorithm::GPTQ;
    break;
  case WeightAlgorithm::AWQ:
    options.algorithm = RoundingAlgorithm::AWQ;
    break;
  case WeightAlgorithm::HQQ:
    options.algorithm = RoundingAlgorithm::HQQ;
    break;
  }
  return options;
}
