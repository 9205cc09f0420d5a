//===- Versions.cpp - what the exporter's base opset lacks ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Versions.h"
#include "mlir/IR/BuiltinAttributes.h"

using namespace lowbit;
using namespace lowbit::onnx;

namespace {
struct Row {
  StringRef op, attribute; ///< The operator itself where `attribute` is empty.
  int64_t version;
  StringRef standard; ///< The attribute's default.
};
} // namespace

static const Row rows[] = {
#define LOWBIT_ONNX_NEW_OPERATOR(op, version) {op, "", version, ""},
#define LOWBIT_ONNX_NEW_ATTRIBUTE(op, attribute, version, standard)                                \
  {op, attribute, version, standard},
#include "ONNXVersions.inc"
};

static const Row *findRow(StringRef op, StringRef attribute) {
  for (const Row &row : rows)
    if (row.op == op && row.attribute == attribute)
      return &row;
  return nullptr;
}

int64_t lowbit::onnx::opsetOf(StringRef op) {
  const Row *row = findRow(op, "");
  return row ? row->version : baseOpset;
}

static bool isDefault(Attribute value, StringRef standard) {
  if (auto text = dyn_cast<StringAttr>(value))
    return text.getValue() == standard;
  if (auto number = dyn_cast<IntegerAttr>(value))
    return std::to_string(number.getValue().getSExtValue()) == standard;
  return false;
}

int64_t lowbit::onnx::opsetOf(StringRef op, StringRef attribute, Attribute value) {
  const Row *row = findRow(op, attribute);
  return row && !isDefault(value, row->standard) ? row->version : baseOpset;
}

bool lowbit::onnx::hasAttribute(StringRef op, StringRef attribute, int64_t opset) {
  const Row *row = findRow(op, attribute);
  return !row || row->version <= opset;
}

int64_t lowbit::onnx::irVersionOf(int64_t opset) {
  // https://github.com/onnx/onnx/blob/main/docs/Versioning.md
  if (opset <= 22)
    return 10;
  if (opset == 23)
    return 11;
  if (opset == 24)
    return 12;
  return opset <= 26 ? 13 : 14;
}
