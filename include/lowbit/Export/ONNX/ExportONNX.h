//===- ExportONNX.h - the qdq form as a standard ONNX file ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_EXPORT_ONNX_EXPORTONNX_H
#define LOWBIT_EXPORT_ONNX_EXPORTONNX_H

#include "lowbit/Import/ONNX/ImportONNX.h"
#include "lowbit/Support/LLVM.h"
#include "mlir/IR/BuiltinOps.h"
#include "llvm/Support/raw_ostream.h"
#include <string>

namespace lowbit {

struct ExportOptions {
  /// Whose rules apply: onnxruntime, tensorrt or openvino.
  std::string runtime = "onnxruntime";
  /// Names that the IR does not carry.
  GraphNames names;
  /// Name of the file for tensors of a KiB and more, relative to the model; empty to keep all
  /// tensors in the model.
  std::string dataFile;
  /// Where that file's bytes go; null where `dataFile` is empty.
  raw_ostream *data = nullptr;
};

/// "onnxruntime, tensorrt, openvino".
StringRef exportRuntimes();

/// Bytes of the module's constants as an ONNX file stores them.
int64_t constantBytes(ModuleOp module);

/// Writes @main_graph of a module in the qdq form as a serialized ONNX model of QuantizeLinear and
/// DequantizeLinear around float operators: opset 21, a newer one only where an operator needs it.
/// The same module gives the same bytes. Fails after one diagnostic at the module; a form that
/// `runtime` cannot represent is one that lists the layers.
LogicalResult exportONNX(ModuleOp module, raw_ostream &output, const ExportOptions &options = {});

} // namespace lowbit

#endif // LOWBIT_EXPORT_ONNX_EXPORTONNX_H
