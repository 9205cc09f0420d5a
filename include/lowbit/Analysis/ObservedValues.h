//===- ObservedValues.h - statistics attributes as numbers ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_ANALYSIS_OBSERVEDVALUES_H
#define LOWBIT_ANALYSIS_OBSERVEDVALUES_H

#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Numerics/Moments.h"
#include "lowbit/Numerics/RangeChoice.h"
#include "lowbit/Numerics/TensorObserver.h"
#include <vector>

namespace lowbit {

/// What chooseRange looks at. The histogram is empty where the attribute has none, or one whose
/// resource is not loaded or not a histogram.
ObservedValues getObservedValues(StatsAttr stats);

/// The second moments of a layer's input, one for each group of `cols` columns; empty where the
/// attribute has none, or of another number of columns, or its resource is not loaded.
std::vector<Moments> getMoments(StatsAttr stats, int64_t cols);

/// All that was measured, as lowbit.observe carries it; of the histogram, its buckets(). `observer`
/// has seen values, all of them finite.
StatsAttr getStatsAttr(MLIRContext *context, const TensorObserver &observer);

} // namespace lowbit

#endif // LOWBIT_ANALYSIS_OBSERVEDVALUES_H
