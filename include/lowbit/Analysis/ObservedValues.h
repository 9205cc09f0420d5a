//===- ObservedValues.h - statistics attributes as numbers ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_ANALYSIS_OBSERVEDVALUES_H
#define LOWBIT_ANALYSIS_OBSERVEDVALUES_H

#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Numerics/RangeChoice.h"
#include "lowbit/Numerics/TensorObserver.h"

namespace lowbit {

/// What chooseRange looks at. The histogram is empty where the attribute has none, or one whose
/// resource is not loaded or not a histogram.
ObservedValues getObservedValues(StatsAttr stats);

/// All that was measured, as lowbit.observe carries it; of the histogram, buckets narrower than
/// 2^-15 of the largest magnitude are joined. `observer` has seen values, all of them finite.
StatsAttr getStatsAttr(MLIRContext *context, const TensorObserver &observer);

} // namespace lowbit

#endif // LOWBIT_ANALYSIS_OBSERVEDVALUES_H
