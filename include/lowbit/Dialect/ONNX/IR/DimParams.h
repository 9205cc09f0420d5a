//===- DimParams.h - names of dynamic dims ----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_DIALECT_ONNX_IR_DIMPARAMS_H
#define LOWBIT_DIALECT_ONNX_IR_DIMPARAMS_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/BuiltinAttributes.h"
#include <string>
#include <vector>

namespace lowbit::onnx {

/// Reads `onnx.dim_params` (null: none), by dimension; empty where a dim has no name. "0:N,2:seq"
/// is dim 0 called N and dim 2 called seq. A name is whatever the file says ("Min(512, s53)" with
/// its comma too): a new entry starts only at a comma before digits and a colon.
inline std::vector<std::string> readDimParams(Attribute attr, int64_t rank) {
  std::vector<std::string> names(rank);
  auto given = dyn_cast_or_null<StringAttr>(attr);
  StringRef text = given ? given.getValue() : "";
  while (!text.empty()) {
    int64_t dim = -1;
    if (text.consumeInteger(10, dim) || dim < 0 || !text.consume_front(":"))
      return names;
    size_t end;
    StringRef digits;
    // Up to the next ",digits:".
    for (end = text.find(','); end != StringRef::npos; end = text.find(',', end + 1)) {
      digits = text.substr(end + 1);
      size_t length = digits.find_first_not_of("0123456789");
      if (length && length != StringRef::npos && digits[length] == ':')
        break;
    }
    if (dim < rank)
      names[dim] = text.substr(0, end).str();
    text = end == StringRef::npos ? StringRef() : text.substr(end + 1);
  }
  return names;
}

} // namespace lowbit::onnx

#endif // LOWBIT_DIALECT_ONNX_IR_DIMPARAMS_H
