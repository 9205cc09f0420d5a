//===- Functions.cpp - nodes of a graph, model-local functions inlined -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Functions.h"
#include "Schema.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringSet.h"

using namespace lowbit;
using namespace lowbit::onnx;
using ::onnx::AttributeProto;
using ::onnx::FunctionProto;
using ::onnx::NodeProto;

/// A damaged or hostile file may nest calls without end or multiply them.
static constexpr int maxDepth = 32;
static constexpr size_t maxNodes = 1'000'000;

std::string lowbit::onnx::normalizedDomain(const std::string &domain) {
  return domain == "ai.onnx" ? std::string() : domain;
}

LogicalResult lowbit::onnx::readOpsets(
    const google::protobuf::RepeatedPtrField<::onnx::OperatorSetIdProto> &imports, Location loc,
    OpsetMap &opsets) {
  for (const auto &import : imports) {
    std::string domain = normalizedDomain(import.domain());
    if (domain.empty() && (import.version() < oldestOpset() || import.version() > newestOpset()))
      return emitError(loc) << "the model uses opset " << import.version()
                            << "; this build reads opsets " << oldestOpset() << " to "
                            << newestOpset() << " (convert the model with onnx.version_converter)";
    opsets[domain] = import.version();
  }
  return success();
}

namespace {
class Lister {
public:
  Lister(const ::onnx::ModelProto &model, Location loc, NodeList &list) : loc(loc), list(list) {
    for (const FunctionProto &function : model.functions())
      functions[key(function.domain(), function.name(), function.overload())] = &function;
  }

  LogicalResult run(const ::onnx::GraphProto &graph, const OpsetMap &opsets) {
    for (int i = 0; i < graph.node_size(); ++i)
      if (failed(add(graph.node(i), "", i, opsets, 0)))
        return failure();
    makeUnique();
    return success();
  }

private:
  static std::string key(const std::string &domain, const std::string &name,
                         const std::string &overload) {
    return normalizedDomain(domain) + '\n' + name + '\n' + overload;
  }
  LogicalResult add(const NodeProto &node, const std::string &prefix, int index,
                    const OpsetMap &opsets, int depth);
  LogicalResult inlineCall(const NodeProto &call, const FunctionProto &function,
                           const std::string &name, int depth);
  /// Layer names are keys of recipes and calibration files: the second of two equal ones gets its
  /// position.
  void makeUnique() {
    llvm::StringSet<> taken;
    for (auto [index, node] : llvm::enumerate(list.nodes)) {
      std::string name = node.name;
      for (size_t suffix = index; !taken.insert(name).second; ++suffix)
        name = node.name + "#" + std::to_string(suffix);
      node.name = name;
    }
  }

  /// The body that the schema of an operator without an op class gives; null where there is none.
  const FunctionProto *schemaFunction(const NodeProto &node);

  Location loc;
  NodeList &list;
  llvm::StringMap<const FunctionProto *> functions;
  std::deque<FunctionProto> bodies; ///< Owns those that come from schemas.
  size_t calls = 0;
};
} // namespace

const FunctionProto *Lister::schemaFunction(const NodeProto &node) {
  if (!normalizedDomain(node.domain()).empty())
    return nullptr;
  const SchemaFunction *schema = findSchemaFunction(node.op_type());
  if (!schema)
    return nullptr;
  FunctionProto &body = bodies.emplace_back();
  if (!body.ParseFromArray(schema->bytes, schema->size))
    return nullptr;
  return functions[key("", node.op_type(), node.overload())] = &body;
}

LogicalResult Lister::add(const NodeProto &node, const std::string &prefix, int index,
                          const OpsetMap &opsets, int depth) {
  if (list.nodes.size() >= maxNodes)
    return emitError(loc) << "the model has more than " << maxNodes << " nodes";
  std::string name =
      prefix + (node.name().empty() ? node.op_type() + "#" + std::to_string(index) : node.name());
  const FunctionProto *function =
      functions.lookup(key(node.domain(), node.op_type(), node.overload()));
  if (!function)
    function = schemaFunction(node);
  if (function)
    return inlineCall(node, *function, name, depth);
  list.nodes.push_back({&node, name, &opsets});
  return success();
}

LogicalResult Lister::inlineCall(const NodeProto &call, const FunctionProto &function,
                                 const std::string &name, int depth) {
  if (depth >= maxDepth || ++calls > maxNodes)
    return emitError(loc) << "calls of function '" << function.name()
                          << "' nest too deeply (is it recursive?)";
  if (call.input_size() > function.input_size() || call.output_size() > function.output_size())
    return emitError(loc) << "node '" << name << "' has more inputs or outputs than function '"
                          << function.name() << "'";
  OpsetMap &opsets = list.opsets.emplace_back();
  if (failed(readOpsets(function.opset_import(), loc, opsets)))
    return failure();

  llvm::StringMap<std::string> names;
  std::string scope = name + "@" + std::to_string(calls) + "/";
  for (int i = 0; i < function.input_size(); ++i)
    names[function.input(i)] = i < call.input_size() ? call.input(i) : std::string();
  for (int i = 0; i < function.output_size(); ++i)
    if (i < call.output_size() && !call.output(i).empty())
      names[function.output(i)] = call.output(i);
  auto rename = [&](std::string *value) {
    if (value->empty())
      return;
    auto [entry, inserted] = names.try_emplace(*value, scope + *value);
    *value = entry->second;
  };
  llvm::StringMap<const AttributeProto *> given;
  for (const AttributeProto &attr : function.attribute_proto())
    given[attr.name()] = &attr;
  for (const AttributeProto &attr : call.attribute())
    given[attr.name()] = &attr;

  for (int i = 0; i < function.node_size(); ++i) {
    NodeProto &node = list.inlined.emplace_back(function.node(i));
    for (std::string &input : *node.mutable_input())
      rename(&input);
    for (std::string &output : *node.mutable_output())
      rename(&output);
    auto *attributes = node.mutable_attribute();
    for (int a = attributes->size() - 1; a >= 0; --a) {
      AttributeProto *attr = attributes->Mutable(a);
      if (attr->ref_attr_name().empty())
        continue;
      const AttributeProto *value = given.lookup(attr->ref_attr_name());
      if (!value) {
        attributes->DeleteSubrange(a, 1);
        continue;
      }
      std::string own = attr->name();
      *attr = *value;
      attr->set_name(own);
    }
    if (failed(add(node, name + "/", i, opsets, depth + 1)))
      return failure();
  }
  return success();
}

LogicalResult lowbit::onnx::listNodes(const ::onnx::ModelProto &model, Location loc,
                                      NodeList &list) {
  OpsetMap &opsets = list.opsets.emplace_back();
  if (failed(readOpsets(model.opset_import(), loc, opsets)))
    return failure();
  if (!opsets.count(""))
    return emitError(loc)
           << "the model does not import domain ai.onnx: it is not an ONNX model or is "
              "damaged";
  return Lister(model, loc, list).run(model.graph(), opsets);
}
