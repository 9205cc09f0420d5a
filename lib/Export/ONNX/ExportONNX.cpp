//===- ExportONNX.cpp - the qdq form as a standard ONNX file ----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Export/ONNX/ExportONNX.h"
#include "GraphWriter.h"
#include "Versions.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Support/ConstantData.h"

using namespace lowbit;
using namespace lowbit::onnx;

int64_t lowbit::constantBytes(ModuleOp module) {
  int64_t bytes = 0;
  module.walk([&](Operation *op) {
    if (op->getNumOperands() || op->getNumResults() != 1 || !op->hasAttr("value"))
      return;
    auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
    if (type && type.hasStaticShape() && type.getElementType().isIntOrIndexOrFloat())
      bytes += type.getNumElements() * bytesPerElement(type.getElementType());
  });
  return bytes;
}

LogicalResult lowbit::exportONNX(ModuleOp module, raw_ostream &output,
                                 const ExportOptions &options) {
  const Runtime *runtime = findRuntime(options.runtime);
  if (!runtime)
    return module.emitError() << "unknown runtime '" << options.runtime << "', expected one of "
                              << exportRuntimes();
  auto entry = module.lookupSymbol<func::FuncOp>("main_graph");
  if (!entry || entry.isExternal() || !entry.getBody().hasOneBlock())
    return module.emitError() << "expected a function @main_graph of one block";
  if (failed(checkRuntime(module, *runtime)))
    return failure();

  ::onnx::ModelProto model;
  int64_t opset = baseOpset;
  llvm::StringSet<> domains;
  entry.walk([&](Operation *op) {
    StringRef name = getOperator(op);
    if (name.empty())
      return;
    if (name == "Custom") {
      domains.insert(getString(op, "domain_name", ""));
      return;
    }
    opset = std::max(opset, opsetOf(name));
    for (NamedAttribute attr : op->getAttrDictionary())
      opset = std::max(opset, opsetOf(name, attr.getName(), attr.getValue()));
  });
  auto import = [&](StringRef domain, int64_t version) {
    auto *entry = model.add_opset_import();
    entry->set_domain(domain.str());
    entry->set_version(version);
  };
  import("", opset);
  SmallVector<StringRef> others(domains.keys());
  llvm::sort(others);
  for (StringRef domain : others)
    if (!domain.empty())
      import(domain, 1);
  model.set_ir_version(irVersionOf(opset));
  model.set_producer_name("lowbit");
  model.set_producer_version("0.1.0");
  model.mutable_graph()->set_name(options.names.graph);

  GraphWriter writer(model, options, *runtime);
  if (failed(writer.write(entry)))
    return failure();
  std::string bytes;
  if (model.ByteSizeLong() > INT_MAX)
    return module.emitError() << "over 2 GiB: the tensors need a file of their own (external data)";
  model.SerializeToString(&bytes);
  output << bytes;
  return success();
}
