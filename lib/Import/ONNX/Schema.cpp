//===- Schema.cpp - what the importer knows of each operator ----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Schema.h"
#include "llvm/ADT/StringMap.h"

using namespace lowbit;
using namespace lowbit::onnx;

#define LOWBIT_ONNX_OPERATOR(...)
#define LOWBIT_ONNX_NEWEST_OPSET(version) static constexpr int64_t newest = version;
#include "lowbit/Dialect/ONNX/IR/ONNXOperators.inc"
#undef LOWBIT_ONNX_OPERATOR
#undef LOWBIT_ONNX_NEWEST_OPSET

static const OperatorSchema operators[] = {
#define LOWBIT_ONNX_NEWEST_OPSET(version)
#define LOWBIT_ONNX_OPERATOR(...) {__VA_ARGS__},
#include "lowbit/Dialect/ONNX/IR/ONNXOperators.inc"
};

static const SchemaFunction functions[] = {
#define LOWBIT_ONNX_FUNCTION(...) {__VA_ARGS__},
#include "lowbit/Dialect/ONNX/IR/ONNXFunctions.inc"
};

int64_t lowbit::onnx::oldestOpset() { return 7; }
int64_t lowbit::onnx::newestOpset() { return newest; }

const OperatorSchema *lowbit::onnx::findOperator(StringRef name) {
  static const llvm::StringMap<const OperatorSchema *> byName = [] {
    llvm::StringMap<const OperatorSchema *> map;
    for (const OperatorSchema &schema : operators)
      map[schema.name] = &schema;
    return map;
  }();
  return byName.lookup(name);
}

const SchemaFunction *lowbit::onnx::findSchemaFunction(StringRef name) {
  for (const SchemaFunction &function : functions)
    if (function.name == name)
      return &function;
  return nullptr;
}
