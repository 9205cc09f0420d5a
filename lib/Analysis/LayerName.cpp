//===- LayerName.cpp - the name of a layer ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/LayerName.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Operation.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace lowbit;

static StringAttr explicitName(Operation *op) {
  for (StringRef key : {"onnx_node_name", "layer", "lowbit.layer"})
    if (auto name = op->getAttrOfType<StringAttr>(key))
      if (!name.empty())
        return name;
  return {};
}

bool lowbit::hasLayerName(Operation *op) { return bool(explicitName(op)); }

std::string lowbit::getLayerName(Operation *op) {
  if (StringAttr name = explicitName(op))
    return name.str();
  int64_t index = 0;
  if (auto function = op->getParentOfType<FunctionOpInterface>())
    function->walk<WalkOrder::PreOrder>([&](Operation *other) {
      if (other == op)
        return WalkResult::interrupt();
      index += other->getName() == op->getName();
      return WalkResult::advance();
    });
  return (op->getName().stripDialect() + "#" + Twine(index)).str();
}
