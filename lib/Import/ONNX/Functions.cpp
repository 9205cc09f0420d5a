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

/// A damaged or hostile file may nest calls and graphs without end or multiply them.
static constexpr int maxDepth = 32, maxNesting = 12;
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
/// Names by which a function's values are known in the graph that calls it.
using Renaming = llvm::StringMap<std::string>;
using AttributeMap = llvm::StringMap<const AttributeProto *>;

class Lister {
public:
  Lister(const ::onnx::ModelProto &model, Location loc) : loc(loc) {
    for (const FunctionProto &function : model.functions())
      functions[key(function.domain(), function.name(), function.overload())] = &function;
  }

  LogicalResult run(const ::onnx::GraphProto &graph, const OpsetMap &opsets, NodeList &list) {
    if (failed(listGraph(graph, "", "", opsets, 0, 0, list)))
      return failure();
    makeUnique(list);
    return success();
  }

private:
  static std::string key(const std::string &domain, const std::string &name,
                         const std::string &overload) {
    return normalizedDomain(domain) + '\n' + name + '\n' + overload;
  }
  /// `prefix` is that of all names, `place` that of nodes without a name.
  LogicalResult listGraph(const ::onnx::GraphProto &graph, const std::string &prefix,
                          const std::string &place, const OpsetMap &opsets, int calls, int nesting,
                          NodeList &list);
  LogicalResult add(const NodeProto &node, const std::string &prefix, const std::string &place,
                    int index, const OpsetMap &opsets, int calls, int nesting, NodeList &list);
  LogicalResult inlineCall(const NodeProto &call, const FunctionProto &function,
                           const std::string &name, int calls, int nesting, NodeList &list);
  /// Layer names are keys of recipes and calibration files: the second of two equal ones gets its
  /// position.
  void makeUnique(NodeList &list) {
    for (auto [index, node] : llvm::enumerate(list.nodes)) {
      std::string name = node.name;
      for (size_t suffix = index; !taken.insert(name).second; ++suffix)
        name = node.name + "#" + std::to_string(suffix);
      node.name = name;
      for (NestedGraph &nested : node.graphs)
        makeUnique(*nested.nodes);
    }
  }

  /// The body that the schema of an operator without an op class gives; null where there is none.
  const FunctionProto *schemaFunction(const NodeProto &node);

  Location loc;
  llvm::StringMap<const FunctionProto *> functions;
  llvm::StringSet<> taken;
  std::deque<FunctionProto> bodies; ///< Owns those that come from schemas.
  size_t inlinedCalls = 0, listed = 0;
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

LogicalResult Lister::listGraph(const ::onnx::GraphProto &graph, const std::string &prefix,
                                const std::string &place, const OpsetMap &opsets, int calls,
                                int nesting, NodeList &list) {
  for (int i = 0; i < graph.node_size(); ++i)
    if (failed(add(graph.node(i), prefix, place, i, opsets, calls, nesting, list)))
      return failure();
  return success();
}

LogicalResult Lister::add(const NodeProto &node, const std::string &prefix,
                          const std::string &place, int index, const OpsetMap &opsets, int calls,
                          int nesting, NodeList &list) {
  if (++listed > maxNodes)
    return emitError(loc) << "the model has more than " << maxNodes << " nodes";
  std::string name = node.name().empty()
                         ? prefix + place + node.op_type() + "#" + std::to_string(index)
                         : prefix + node.name();
  const FunctionProto *function =
      functions.lookup(key(node.domain(), node.op_type(), node.overload()));
  if (!function)
    function = schemaFunction(node);
  if (function)
    return inlineCall(node, *function, name, calls, nesting, list);
  NamedNode named{&node, name, &opsets, {}};
  for (const AttributeProto &attr : node.attribute()) {
    if (!attr.has_g())
      continue;
    if (nesting >= maxNesting)
      return emitError(loc) << "graphs nest more than " << maxNesting << " deep around node '"
                            << name << "'";
    auto inner = std::make_unique<NodeList>();
    std::string inside = name.substr(prefix.size()) + "/" + attr.name() + "/";
    if (failed(listGraph(attr.g(), prefix, inside, opsets, calls, nesting + 1, *inner)))
      return failure();
    named.graphs.push_back({attr.name(), &attr.g(), std::move(inner)});
  }
  list.nodes.push_back(std::move(named));
  return success();
}

/// Puts the call's attributes and names into a node of the function, and into the graphs inside it.
static void instantiate(NodeProto &node, const Renaming &names, const AttributeMap &given) {
  auto rename = [&](std::string *value) {
    if (auto found = names.find(*value); found != names.end())
      *value = found->second;
  };
  for (std::string &input : *node.mutable_input())
    rename(&input);
  for (std::string &output : *node.mutable_output())
    rename(&output);
  auto *attributes = node.mutable_attribute();
  for (int a = attributes->size() - 1; a >= 0; --a) {
    AttributeProto *attr = attributes->Mutable(a);
    if (!attr->ref_attr_name().empty()) {
      const AttributeProto *value = given.lookup(attr->ref_attr_name());
      if (!value) {
        attributes->DeleteSubrange(a, 1);
        continue;
      }
      std::string own = attr->name();
      *attr = *value;
      attr->set_name(own);
      continue; // The caller's graph: its names are those of the caller.
    }
    if (!attr->has_g())
      continue;
    // What the graph defines itself hides the function's names.
    ::onnx::GraphProto &graph = *attr->mutable_g();
    Renaming inner = names;
    for (const auto &input : graph.input())
      inner.erase(input.name());
    for (const auto &initializer : graph.initializer())
      inner.erase(initializer.name());
    for (const NodeProto &child : graph.node())
      for (const std::string &output : child.output())
        inner.erase(output);
    for (NodeProto &child : *graph.mutable_node())
      instantiate(child, inner, given);
    for (auto &output : *graph.mutable_output())
      if (auto found = inner.find(output.name()); found != inner.end())
        output.set_name(found->second);
  }
}

LogicalResult Lister::inlineCall(const NodeProto &call, const FunctionProto &function,
                                 const std::string &name, int calls, int nesting, NodeList &list) {
  if (calls >= maxDepth || ++inlinedCalls > maxNodes)
    return emitError(loc) << "calls of function '" << function.name()
                          << "' nest too deeply (is it recursive?)";
  if (call.input_size() > function.input_size() || call.output_size() > function.output_size())
    return emitError(loc) << "node '" << name << "' has more inputs or outputs than function '"
                          << function.name() << "'";
  OpsetMap &opsets = list.opsets.emplace_back();
  if (failed(readOpsets(function.opset_import(), loc, opsets)))
    return failure();

  Renaming names;
  std::string scope = name + "@" + std::to_string(inlinedCalls) + "/";
  for (int i = 0; i < function.input_size(); ++i)
    names[function.input(i)] = i < call.input_size() ? call.input(i) : std::string();
  for (int i = 0; i < function.output_size(); ++i)
    if (i < call.output_size() && !call.output(i).empty())
      names[function.output(i)] = call.output(i);
  // Every other value of the function, used before it is defined or not at all.
  for (const NodeProto &node : function.node()) {
    for (const std::string &output : node.output())
      if (!output.empty())
        names.try_emplace(output, scope + output);
    for (const std::string &input : node.input())
      if (!input.empty())
        names.try_emplace(input, scope + input);
  }
  AttributeMap given;
  for (const AttributeProto &attr : function.attribute_proto())
    given[attr.name()] = &attr;
  for (const AttributeProto &attr : call.attribute())
    given[attr.name()] = &attr;
  for (int i = 0; i < function.node_size(); ++i) {
    NodeProto &node = list.inlined.emplace_back(function.node(i));
    instantiate(node, names, given);
    if (failed(add(node, name + "/", "", i, opsets, calls + 1, nesting, list)))
      return failure();
  }
  return success();
}

void lowbit::onnx::forEachCapture(const NestedGraph &nested,
                                  llvm::function_ref<void(const std::string &)> visit) {
  llvm::StringSet<> own;
  for (const auto &input : nested.graph->input())
    own.insert(input.name());
  for (const auto &initializer : nested.graph->initializer())
    own.insert(initializer.name());
  for (const NamedNode &node : nested.nodes->nodes)
    for (const std::string &output : node.proto->output())
      own.insert(output);
  auto use = [&](const std::string &name) {
    if (!name.empty() && !own.contains(name))
      visit(name);
  };
  for (const NamedNode &node : nested.nodes->nodes) {
    for (const std::string &input : node.proto->input())
      use(input);
    for (const NestedGraph &inner : node.graphs)
      forEachCapture(inner, use);
  }
  for (const auto &output : nested.graph->output())
    use(output.name());
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
  return Lister(model, loc).run(model.graph(), opsets, list);
}
