//===- Functions.h - nodes of a graph, model-local functions inlined -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_IMPORT_ONNX_FUNCTIONS_H
#define LOWBIT_LIB_IMPORT_ONNX_FUNCTIONS_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/Location.h"
#include "onnx-ml.pb.h"
#include "llvm/ADT/StringMap.h"
#include <deque>
#include <memory>
#include <vector>

namespace lowbit::onnx {

/// Opset version by domain; "" is ai.onnx.
using OpsetMap = llvm::StringMap<int64_t>;

struct NodeList;

/// A graph that is an attribute of a node.
struct NestedGraph {
  std::string attribute;
  const ::onnx::GraphProto *graph;
  std::unique_ptr<NodeList> nodes;
};

/// A node with its layer name and the opsets that it was written against.
struct NamedNode {
  const ::onnx::NodeProto *proto;
  std::string name;
  const OpsetMap *opsets;
  std::vector<NestedGraph> graphs;
};

/// The nodes of one graph in file order.
struct NodeList {
  std::vector<NamedNode> nodes;
  std::deque<::onnx::NodeProto> inlined; ///< Owns the nodes that came out of functions.
  std::deque<OpsetMap> opsets;
};

/// Calls `visit` for every name that `nested` takes from the graphs around it; a name may come more than once.
void forEachCapture(const NestedGraph &nested,
                    llvm::function_ref<void(const std::string &)> visit);

/// "ai.onnx" and "" are one domain.
std::string normalizedDomain(const std::string &domain);

/// Reads the opset imports; failure after one diagnostic where one of ai.onnx cannot be read.
LogicalResult
readOpsets(const google::protobuf::RepeatedPtrField<::onnx::OperatorSetIdProto> &imports,
           Location loc, OpsetMap &opsets);

/// Names every node of `model`'s graph and of the graphs inside it, and replaces calls of model-local functions by
/// their bodies.
LogicalResult listNodes(const ::onnx::ModelProto &model, Location loc, NodeList &list);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_IMPORT_ONNX_FUNCTIONS_H
