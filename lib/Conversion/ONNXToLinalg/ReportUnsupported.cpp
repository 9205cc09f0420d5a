//===- ReportUnsupported.cpp - which nodes have no lowering -----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Conversion/Passes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/MapVector.h"

using namespace lowbit;

LogicalResult lowbit::reportUnsupported(ModuleOp module) {
  llvm::MapVector<StringAttr, SmallVector<std::string>> byOperator;
  size_t count = 0;
  module.walk([&](Operation *op) {
    StringRef name = onnx::getOperator(op);
    if (name.empty() || name == "Constant" || name == "NoValue" || name == "Yield" ||
        onnx::loweringTable().count(name))
      return;
    std::string shown = name.str(), why;
    if (name == "Custom") {
      StringRef domain = onnx::getString(op, "domain_name", "");
      shown = (domain.empty() ? Twine() : domain + ".").str() +
              onnx::getString(op, "function_name", "").str();
      if (StringRef reason = onnx::getString(op, "reason", ""); !reason.empty())
        why = (": " + reason).str();
    }
    byOperator[StringAttr::get(module.getContext(), shown)].push_back("'" + getLayerName(op) + "'" + why);
    ++count;
  });
  if (!count)
    return success();
  InFlightDiagnostic error = emitError(module.getLoc());
  error << count << " node(s) of " << byOperator.size() << " operator(s) are not supported: ";
  bool first = true;
  for (auto &[name, nodes] : byOperator) {
    error << (first ? "" : "; ") << name.getValue() << " x " << nodes.size() << " (";
    llvm::interleaveComma(nodes, error);
    error << ")";
    first = false;
  }
  return error;
}
