//===- EinsumEquation.h - the equation of an Einsum -------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_ANALYSIS_EINSUMEQUATION_H
#define LOWBIT_ANALYSIS_EINSUMEQUATION_H

#include "lowbit/Support/LLVM.h"
#include "llvm/ADT/SmallVector.h"
#include <string>

namespace lowbit {

/// "bij,bjk->bik" as numbers: each letter is a label, each dim of an ellipsis too.
struct EinsumEquation {
  SmallVector<SmallVector<unsigned>> inputs; ///< The label of each dim of each operand.
  SmallVector<unsigned> output;
  unsigned labels = 0; ///< Labels are the numbers below this.

  /// Reads `text` for operands of these ranks. Failure with one sentence in `error` where it is
  /// malformed or does not fit.
  static FailureOr<EinsumEquation> parse(StringRef text, ArrayRef<int64_t> ranks,
                                         std::string &error);
};

} // namespace lowbit

#endif // LOWBIT_ANALYSIS_EINSUMEQUATION_H
