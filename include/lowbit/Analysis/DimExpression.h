//===- DimExpression.h - the arithmetic in a dim's name ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_ANALYSIS_DIMEXPRESSION_H
#define LOWBIT_ANALYSIS_DIMEXPRESSION_H

#include "lowbit/Support/LLVM.h"
#include <functional>
#include <optional>

namespace lowbit {

/// The value of a dim's name as exporters write it, given the sizes of the names in it: `past + sequence`,
/// `((s43*s53)//s72)`, `Min(256, s53)`, `(((h - 1)//16)) + 1`. Operators are + - * // % Min Max and parentheses.
/// Nothing where the text is no such arithmetic, a name in it has no size, a divisor is 0 or a number overflows: a name
/// may be any text, and then stands for itself alone.
std::optional<int64_t>
evaluateDimName(StringRef text,
                const std::function<std::optional<int64_t>(StringRef name)> &sizeOf);

} // namespace lowbit

#endif // LOWBIT_ANALYSIS_DIMEXPRESSION_H
