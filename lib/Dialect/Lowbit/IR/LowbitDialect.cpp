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

LogicalResult StatsAttr::verify(function_ref<InFlightDiagnostic()> emitError, FloatAttr min,
                                FloatAttr max) {
  double low = min.getValueAsDouble(), high = max.getValueAsDouble();
  if (!std::isfinite(low) || !std::isfinite(high))
    return emitError() << "expected finite statistics, found min = " << low << ", max = " << high;
  if (low > high)
    return emitError() << "expected min <= max, found min = " << low << ", max = " << high;
  return success();
}
