//===- Schema.h - what the importer knows of each operator ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_IMPORT_ONNX_SCHEMA_H
#define LOWBIT_LIB_IMPORT_ONNX_SCHEMA_H

#include "lowbit/Support/LLVM.h"
#include "llvm/ADT/StringRef.h"

namespace lowbit::onnx {

/// The oldest and the newest opset of domain ai.onnx that can be read.
int64_t oldestOpset();
int64_t newestOpset();

/// The newest version of an operator that has an op class.
struct OperatorSchema {
  StringRef name;
  int64_t sinceVersion;
  int64_t inputs;
  bool variadicInput;      ///< The last input may repeat.
  uint64_t requiredInputs; ///< Bit i: input i must be given.
  int64_t outputs;
  bool variadicOutput; ///< The last output may repeat.
  /// Where the results' element types come from, one word per output: alternatives of which the
  /// first that is there counts. "=7": that number of TensorProto.DataType; "@to": the attribute
  /// that holds one, or a tensor; "2": operand 2.
  StringRef elements;
};

/// The body of an operator that has no op class, from its schema: the bytes of a FunctionProto.
struct SchemaFunction {
  StringRef name;
  size_t size;
  const char *bytes;
};

/// Null where `name` of domain ai.onnx has no op class.
const OperatorSchema *findOperator(StringRef name);

/// Null where `name` of domain ai.onnx has an op class or no body.
const SchemaFunction *findSchemaFunction(StringRef name);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_IMPORT_ONNX_SCHEMA_H
