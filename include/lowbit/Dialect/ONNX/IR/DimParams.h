//===- DimParams.h - names of dynamic dims ----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_DIALECT_ONNX_IR_DIMPARAMS_H
#define LOWBIT_DIALECT_ONNX_IR_DIMPARAMS_H

#include "lowbit/Support/LLVM.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include <string>
#include <utility>

namespace lowbit::onnx {

/// Reads `onnx.dim_params`: "0:N,2:seq" is dim 0 called N and dim 2 called seq. A name is whatever the file says
/// ("Min(512, s53)" with its comma too): a new entry starts only at a comma before digits and a colon.
inline SmallVector<std::pair<int64_t, std::string>> parseDimParams(StringRef text) {
  SmallVector<std::pair<int64_t, std::string>> entries;
  while (!text.empty()) {
    int64_t dim = -1;
    if (text.consumeInteger(10, dim) || dim < 0 || !text.consume_front(":"))
      return entries;
    size_t end;
    StringRef digits;
    // Up to the next ",digits:".
    for (end = text.find(','); end != StringRef::npos; end = text.find(',', end + 1)) {
      digits = text.substr(end + 1);
      size_t length = digits.find_first_not_of("0123456789");
      if (length && length != StringRef::npos && digits[length] == ':')
        break;
    }
    entries.emplace_back(dim, text.substr(0, end).str());
    text = end == StringRef::npos ? StringRef() : text.substr(end + 1);
  }
  return entries;
}

} // namespace lowbit::onnx

#endif // LOWBIT_DIALECT_ONNX_IR_DIMPARAMS_H
