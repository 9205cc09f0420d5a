//===- GraphImporter.h - a graph becomes a function -------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_IMPORT_ONNX_GRAPHIMPORTER_H
#define LOWBIT_LIB_IMPORT_ONNX_GRAPHIMPORTER_H

#include "Functions.h"
#include "TensorReader.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"

namespace lowbit::onnx {
struct PendingNode;

/// Imports one graph into a func.func at the builder's insertion point.
class GraphImporter {
public:
  /// `outer` is the graph around this one, or null.
  GraphImporter(const ::onnx::GraphProto &graph, const NodeList &nodes, TensorReader &tensors,
                OpBuilder &builder, Location loc, GraphImporter *outer = nullptr)
      : graph(graph), nodes(nodes), tensors(tensors), builder(builder), loc(loc), outer(outer) {}

  /// Failure after one diagnostic; what was built so far is then of no use.
  LogicalResult run(StringRef functionName);

  /// Imports a graph inside node `user` as the one block of a region. `arguments` are the types of its inputs.
  FailureOr<std::unique_ptr<Region>> runBody(ArrayRef<Type> arguments, const std::string &user);

private:
  FailureOr<Type> importType(const ::onnx::ValueInfoProto &info, bool isInput,
                             std::string &dimParams);
  LogicalResult collectNames();
  LogicalResult sortNodes(SmallVectorImpl<const NamedNode *> &order);
  LogicalResult importConstant(const NamedNode &node, Location at);
  LogicalResult importNode(const NamedNode &node);
  LogicalResult importBodies(const NamedNode &node, PendingNode &pending);
  /// True where `name` is known here or further out; `value` is null where reading its initializer failed.
  bool find(const std::string &name, Location at, Value &value);
  /// The value called `name`, its initializer built where this is its first use; null after one diagnostic.
  Value lookup(const std::string &name, Location at, const std::string &user);
  Value makeConstant(ElementsAttr value, StringRef name, Location at);

  const ::onnx::GraphProto &graph;
  const NodeList &nodes;
  TensorReader &tensors;
  OpBuilder &builder;
  Location loc;
  GraphImporter *outer;
  /// Where this graph goes on, while a graph inside one of its nodes is imported.
  OpBuilder::InsertPoint resume;
  llvm::StringMap<Value> values;
  llvm::StringMap<const ::onnx::TensorProto *> initializers;
  llvm::StringMap<const ::onnx::ValueInfoProto *> valueInfo;
  llvm::StringMap<size_t> producer; ///< Index into nodes.
};

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_IMPORT_ONNX_GRAPHIMPORTER_H
