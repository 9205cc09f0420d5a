//===- ImportONNX.h - ONNX files become the float form ----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_IMPORT_ONNX_IMPORTONNX_H
#define LOWBIT_IMPORT_ONNX_IMPORTONNX_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/ADT/StringMap.h"
#include <string>
#include <vector>

namespace lowbit {

struct ImportOptions {
  /// Name of the imported function.
  std::string functionName = "main_graph";
};

/// Reads the ONNX model at `path` into a module of `onnx` ops with one public function, shapes not yet
/// inferred. Older opsets (7 and up) are upgraded, model-local functions are inlined, nodes are put
/// in dependence order, external data is mapped for as long as an attribute refers to it. Nodes of
/// operators without an op class become `onnx.Custom`; `reportUnsupported` refuses them later.
/// Returns null after one diagnostic on `context` where the file is damaged or beyond this importer.
OwningOpRef<ModuleOp> importONNX(StringRef path, MLIRContext &context,
                                 const ImportOptions &options = {});

/// The same from bytes in memory. `name` stands for the file in messages; external data is looked for in
/// `directory` only (empty: the model must not have any).
OwningOpRef<ModuleOp> importONNX(ArrayRef<char> bytes, StringRef name, StringRef directory,
                                 MLIRContext &context, const ImportOptions &options = {});

/// Names that the IR does not carry.
struct GraphNames {
  std::string graph = "main_graph";
  /// By node (onnx_node_name): the names of its outputs, empty where it leaves one out.
  llvm::StringMap<std::vector<std::string>> outputs;
};

/// The names in the model at `path`, which importONNX has read before; none where it cannot be read now.
GraphNames readGraphNames(StringRef path, MLIRContext &context);

} // namespace lowbit

#endif // LOWBIT_IMPORT_ONNX_IMPORTONNX_H
