//===- LowbitDialect.cpp - the lowbit dialect and its attributes ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"
#include <cmath>
#include <limits>
#include <optional>

using namespace lowbit;

#include "lowbit/Dialect/Lowbit/IR/LowbitDialect.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "lowbit/Dialect/Lowbit/IR/LowbitAttrs.cpp.inc"

void LowbitDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "lowbit/Dialect/Lowbit/IR/LowbitAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "lowbit/Dialect/Lowbit/IR/LowbitOps.cpp.inc"
      >();
}

/// A histogram's rows are finite, ordered and counted; those of a resource are looked at where
/// they are used.
static LogicalResult verifyHistogram(function_ref<InFlightDiagnostic()> emitError,
                                     ElementsAttr histogram) {
  auto type = dyn_cast<RankedTensorType>(histogram.getType());
  if (!type || type.getRank() != 2 || type.getDimSize(1) != 3 || !type.getElementType().isF64())
    return emitError() << "expected a histogram of type tensor<Nx3xf64>, found "
                       << histogram.getType();
  auto dense = dyn_cast<DenseElementsAttr>(histogram);
  if (!dense)
    return success();
  double last = -std::numeric_limits<double>::infinity();
  int64_t row = 0;
  for (auto value = dense.value_begin<double>(); row < type.getDimSize(0); ++row) {
    double lo = *value++, hi = *value++, count = *value++;
    if (!std::isfinite(lo) || !std::isfinite(hi) || !(lo <= hi) || !(lo >= last) ||
        !(count >= 0) || !std::isfinite(count))
      return emitError() << "expected rows [lo, hi, count] of the histogram in ascending order, "
                            "found ["
                         << lo << ", " << hi << ", " << count << "] as row " << row;
    last = hi;
  }
  return success();
}

LogicalResult StatsAttr::verify(function_ref<InFlightDiagnostic()> emitError, FloatAttr min,
                                FloatAttr max, FloatAttr averageMin, FloatAttr averageMax,
                                ElementsAttr histogram, ElementsAttr channelMin,
                                ElementsAttr channelMax, ElementsAttr channelMean,
                                ElementsAttr channelAbsmean, ElementsAttr channelHistogram,
                                ElementsAttr moments) {
  if (bool(averageMin) != bool(averageMax))
    return emitError() << "expected both average_min and average_max, or neither";
  if (averageMin && !(averageMin.getValueAsDouble() <= averageMax.getValueAsDouble()))
    return emitError() << "expected average_min <= average_max, found "
                       << averageMin.getValueAsDouble() << " and " << averageMax.getValueAsDouble();
  if (histogram && failed(verifyHistogram(emitError, histogram)))
    return failure();
  std::optional<int64_t> channels;
  for (auto [name, values] : {std::pair<StringRef, ElementsAttr>("channel_min", channelMin),
                              {"channel_max", channelMax},
                              {"channel_mean", channelMean},
                              {"channel_absmean", channelAbsmean}}) {
    if (!values)
      continue;
    auto type = dyn_cast<RankedTensorType>(values.getType());
    if (!type || type.getRank() != 1 || !type.getElementType().isF32())
      return emitError() << "expected " << name << " of type tensor<Cxf32>, found "
                         << values.getType();
    if (channels && *channels != type.getDimSize(0))
      return emitError() << "expected as many channels in " << name << " as before (" << *channels
                         << "), found " << type.getDimSize(0);
    channels = type.getDimSize(0);
  }
  if (channelHistogram) {
    auto type = dyn_cast<RankedTensorType>(channelHistogram.getType());
    if (!type || type.getRank() != 2 || type.getDimSize(1) != 4 || !type.getElementType().isF64())
      return emitError() << "expected channel_histogram of type tensor<Nx4xf64>, found "
                         << channelHistogram.getType();
  }
  if (moments) {
    auto type = dyn_cast<RankedTensorType>(moments.getType());
    if (!type || (type.getRank() != 2 && type.getRank() != 3) || !type.getElementType().isF32() ||
        type.getDimSize(type.getRank() - 1) != type.getDimSize(type.getRank() - 2))
      return emitError() << "expected moments of type tensor<KxKxf32> or tensor<GxKxKxf32>, found "
                         << moments.getType();
  }
  double low = min.getValueAsDouble(), high = max.getValueAsDouble();
  if (!std::isfinite(low) || !std::isfinite(high))
    return emitError() << "expected finite statistics, found min = " << low << ", max = " << high;
  if (low > high)
    return emitError() << "expected min <= max, found min = " << low << ", max = " << high;
  return success();
}
