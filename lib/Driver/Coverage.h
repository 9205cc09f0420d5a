//===- Coverage.h - how much calibration saw of a range ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_DRIVER_COVERAGE_H
#define LOWBIT_LIB_DRIVER_COVERAGE_H

#include "Compilation.h"
#include "lowbit/Numerics/RangeChoice.h"
#include "lowbit/Numerics/TensorObserver.h"
#include "llvm/Support/JSON.h"

namespace lowbit {

/// The range of a value when half of the samples had been seen.
struct HalfRange {
  int64_t samples = 0;
  float min = 0, max = 0;
};

/// One observer's part of the coverage report (docs/formats.md). `half` may be null.
llvm::json::Object describeCoverage(const ObserverInfo &info, const TensorObserver &seen,
                                    const RangeOptions &options, const HalfRange *half);

/// What of `seen` lies outside of what calibration covered.
llvm::json::Object compareCoverage(const ObserverInfo &info, const TensorObserver &calibrated,
                                   const TensorObserver &seen, const RangeOptions &options);

} // namespace lowbit

#endif // LOWBIT_LIB_DRIVER_COVERAGE_H
