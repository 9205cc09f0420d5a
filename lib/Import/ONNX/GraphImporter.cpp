//===- GraphImporter.cpp - a graph becomes a function -----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "GraphImporter.h"
#include "NodeImporter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include <queue>

using namespace lowbit;
using namespace lowbit::onnx;
using ::onnx::ValueInfoProto;

FailureOr<Type> GraphImporter::importType(const ValueInfoProto &info, bool isInput,
                                          std::string &dimParams) {
  StringRef what = isInput ? "input" : "output";
  if (!info.type().has_tensor_type())
    return emitError(loc) << what << " '" << info.name()
                          << "' is not a tensor (sequences, maps, optional and sparse values are not "
                             "supported)";
  const auto &tensor = info.type().tensor_type();
  Type element = elementType(tensor.elem_type(), builder.getContext());
  if (!element)
    return emitError(loc) << what << " '" << info.name() << "' has element type "
                          << dataTypeName(tensor.elem_type()) << ", which is not supported";
  if (!tensor.has_shape())
    return Type(UnrankedTensorType::get(element));
  SmallVector<int64_t> shape;
  for (auto [index, dim] : llvm::enumerate(tensor.shape().dim())) {
    bool known = dim.has_dim_value() && dim.dim_value() >= 0;
    shape.push_back(known ? dim.dim_value() : ShapedType::kDynamic);
    if (!dim.dim_param().empty())
      dimParams += (dimParams.empty() ? "" : ",") + std::to_string(index) + ":" + dim.dim_param();
  }
  int64_t count = 1;
  for (int64_t dim : shape)
    if (dim != ShapedType::kDynamic && dim != 0 && __builtin_mul_overflow(count, dim, &count))
      return emitError(loc) << what << " '" << info.name() << "' has an impossible shape";
  return Type(RankedTensorType::get(shape, element));
}

LogicalResult GraphImporter::collectNames() {
  if (graph.sparse_initializer_size())
    return emitError(loc) << "the model has sparse initializers, which are not supported";
  for (const ::onnx::TensorProto &tensor : graph.initializer())
    if (tensor.name().empty() || !initializers.try_emplace(tensor.name(), &tensor).second)
      return emitError(loc) << (tensor.name().empty()
                                    ? std::string("an initializer has no name")
                                    : "two initializers are called '" + tensor.name() + "'");
  for (const ValueInfoProto &info : graph.value_info())
    valueInfo[info.name()] = &info;
  for (const ValueInfoProto &info : graph.output())
    valueInfo[info.name()] = &info;
  llvm::StringMap<bool> inputs;
  for (const ValueInfoProto &info : graph.input())
    if (info.name().empty() || !inputs.try_emplace(info.name(), true).second)
      return emitError(loc) << (info.name().empty()
                                    ? std::string("an input has no name")
                                    : "two inputs are called '" + info.name() + "'");
  for (auto [index, node] : llvm::enumerate(nodes.nodes))
    for (const std::string &output : node.proto->output()) {
      if (output.empty())
        continue;
      if (inputs.count(output) || initializers.count(output) ||
          !producer.try_emplace(output, index).second)
        return emitError(loc) << "value '" << output << "' is defined twice; the second time by node '"
                              << node.name << "'";
    }
  return success();
}

/// Dependence order; among nodes that are ready, the file's order.
LogicalResult GraphImporter::sortNodes(SmallVectorImpl<const NamedNode *> &order) {
  size_t count = nodes.nodes.size();
  std::vector<SmallVector<size_t, 2>> users(count);
  std::vector<size_t> waiting(count, 0);
  for (size_t i = 0; i < count; ++i) {
    auto wait = [&](const std::string &input) {
      if (auto found = producer.find(input); !input.empty() && found != producer.end()) {
        users[found->second].push_back(i);
        ++waiting[i];
      }
    };
    for (const std::string &input : nodes.nodes[i].proto->input())
      wait(input);
    for (const NestedGraph &nested : nodes.nodes[i].graphs)
      forEachCapture(nested, wait);
  }
  std::priority_queue<size_t, std::vector<size_t>, std::greater<size_t>> ready;
  for (size_t i = 0; i < count; ++i)
    if (!waiting[i])
      ready.push(i);
  while (!ready.empty()) {
    size_t i = ready.top();
    ready.pop();
    order.push_back(&nodes.nodes[i]);
    for (size_t user : users[i])
      if (!--waiting[user])
        ready.push(user);
  }
  if (order.size() == count)
    return success();
  size_t stuck = llvm::find_if(waiting, [](size_t n) { return n > 0; }) - waiting.begin();
  return emitError(loc) << "the graph has a cycle through or before node '"
                        << nodes.nodes[stuck].name << "'";
}

Value GraphImporter::makeConstant(ElementsAttr value, StringRef name, Location at) {
  OperationState state(at, "onnx.Constant", {}, value.getType(), {});
  state.addAttribute("value", value);
  if (!name.empty())
    state.addAttribute("onnx_name", builder.getStringAttr(name));
  return builder.create(state)->getResult(0);
}

bool GraphImporter::find(const std::string &name, Location at, Value &value) {
  auto found = values.find(name);
  if (found != values.end()) {
    value = found->second;
    return true;
  }
  auto initializer = initializers.find(name);
  if (initializer == initializers.end()) {
    if (!outer)
      return false;
    // A constant of the outer graph belongs there: other graphs may use it too.
    OpBuilder::InsertionGuard guard(builder);
    builder.restoreInsertionPoint(outer->resume);
    return outer->find(name, at, value);
  }
  if (ElementsAttr data = tensors.read(*initializer->second, at, "initializer '" + name + "'"))
    value = values[name] =
        makeConstant(data, name, NameLoc::get(builder.getStringAttr(name)));
  return true;
}

Value GraphImporter::lookup(const std::string &name, Location at, const std::string &user) {
  Value value;
  if (!find(name, at, value))
    emitError(at) << user << " uses value '" << name << "', which nothing defines";
  return value;
}

LogicalResult GraphImporter::importConstant(const NamedNode &node, Location at) {
  if (node.proto->output_size() != 1 || node.proto->attribute_size() != 1)
    return emitError(at) << "Constant node '" << node.name
                         << "' should have one attribute and one output";
  const ::onnx::AttributeProto &attr = node.proto->attribute(0);
  auto type = [&](size_t count, Type element, bool scalar) {
    return RankedTensorType::get(scalar ? ArrayRef<int64_t>() : ArrayRef<int64_t>(count), element);
  };
  ElementsAttr value;
  StringRef key = attr.name();
  if (key == "value") {
    value = tensors.read(attr.t(), at, "Constant node '" + node.name + "'");
    if (!value)
      return failure();
  } else if (key == "value_float") {
    value = DenseElementsAttr::get(type(1, builder.getF32Type(), true), attr.f());
  } else if (key == "value_int") {
    value = DenseElementsAttr::get(type(1, builder.getI64Type(), true), attr.i());
  } else if (key == "value_floats") {
    SmallVector<float> floats(attr.floats().begin(), attr.floats().end());
    value = DenseElementsAttr::get(type(floats.size(), builder.getF32Type(), false),
                                   ArrayRef<float>(floats));
  } else if (key == "value_ints") {
    SmallVector<int64_t> ints(attr.ints().begin(), attr.ints().end());
    value = DenseElementsAttr::get(type(ints.size(), builder.getI64Type(), false),
                                   ArrayRef<int64_t>(ints));
  } else {
    return emitError(at) << "Constant node '" << node.name << "' holds '" << key
                         << "', which is not supported (strings and sparse tensors are not)";
  }
  Value result = makeConstant(value, node.proto->output(0), at);
  result.getDefiningOp()->setAttr("onnx_node_name", builder.getStringAttr(node.name));
  values[node.proto->output(0)] = result;
  return success();
}

LogicalResult GraphImporter::importNode(const NamedNode &node) {
  Location at = NameLoc::get(builder.getStringAttr(node.name));
  const ::onnx::NodeProto &proto = *node.proto;
  std::string domain = normalizedDomain(proto.domain());
  if (domain.empty() && proto.op_type() == "Constant")
    return importConstant(node, at);
  if (!node.opsets->count(domain) && domain.empty())
    return emitError(at) << "function around node '" << node.name
                         << "' does not import domain ai.onnx";
  PendingNode pending{proto.op_type(), domain, node.opsets->lookup(domain), node.name, at, {},
                      {},              {},     {},                          {},        {}};
  std::string user = proto.op_type() + " node '" + node.name + "'";
  if (proto.op_type().empty())
    return emitError(at) << "node '" << node.name << "' has no operator";
  for (const std::string &input : proto.input()) {
    Value operand;
    if (!input.empty() && !(operand = lookup(input, at, user)))
      return failure();
    pending.operands.push_back(operand);
  }
  FailureOr<NamedAttrList> attrs =
      importAttributes(proto, at, tensors, builder.getContext(), pending.unsupported);
  if (failed(attrs))
    return failure();
  pending.attrs = *attrs;
  for (const std::string &output : proto.output()) {
    Type declared;
    std::string ignored;
    const ValueInfoProto *info = valueInfo.lookup(output);
    if (!output.empty() && info && info->type().has_tensor_type()) {
      FailureOr<Type> type = importType(*info, false, ignored);
      if (failed(type))
        return failure();
      declared = *type;
    }
    pending.declared.push_back(declared);
    pending.used.push_back(!output.empty());
  }
  if (hasBodies(domain, proto.op_type()) && failed(importBodies(node, pending)))
    return failure();
  FailureOr<SmallVector<Value>> results = buildNode(pending, builder);
  if (failed(results))
    return failure();
  for (auto [output, value] : llvm::zip(proto.output(), *results))
    if (!output.empty())
      values[output] = value;
  return success();
}

LogicalResult GraphImporter::run(StringRef functionName) {
  SmallVector<const NamedNode *> order;
  if (failed(collectNames()) || failed(sortNodes(order)))
    return failure();

  SmallVector<Type> argumentTypes;
  SmallVector<Attribute> argumentAttrs, resultAttrs;
  SmallVector<StringRef> argumentNames;
  auto describe = [&](StringRef name, const std::string &dimParams) {
    NamedAttrList attrs;
    attrs.append("onnx.name", builder.getStringAttr(name));
    if (!dimParams.empty())
      attrs.append("onnx.dim_params", builder.getStringAttr(dimParams));
    return attrs.getDictionary(builder.getContext());
  };
  for (const ValueInfoProto &info : graph.input()) {
    if (initializers.count(info.name()))
      continue; // Since IR version 4 such an input is a default; before, the only way to write a constant.
    std::string dimParams;
    FailureOr<Type> type = importType(info, true, dimParams);
    if (failed(type))
      return failure();
    argumentTypes.push_back(*type);
    argumentNames.push_back(info.name());
    argumentAttrs.push_back(describe(info.name(), dimParams));
  }
  auto function = func::FuncOp::create(builder, loc, functionName,
                                       builder.getFunctionType(argumentTypes, {}));
  function.setArgAttrsAttr(builder.getArrayAttr(argumentAttrs));
  builder.setInsertionPointToStart(function.addEntryBlock());
  for (auto [name, argument] : llvm::zip(argumentNames, function.getArguments()))
    values[name] = argument;

  for (const NamedNode *node : order)
    if (failed(importNode(*node)))
      return failure();

  if (!graph.output_size())
    return emitError(loc) << "the graph has no outputs";
  SmallVector<Value> results;
  for (const ValueInfoProto &info : graph.output()) {
    Value result = lookup(info.name(), loc, "the list of outputs");
    std::string dimParams;
    if (!result || failed(importType(info, false, dimParams)))
      return failure();
    results.push_back(result);
    resultAttrs.push_back(describe(info.name(), dimParams));
  }
  func::ReturnOp::create(builder, loc, results);
  function.setFunctionType(builder.getFunctionType(argumentTypes, TypeRange(ValueRange(results))));
  function.setResAttrsAttr(builder.getArrayAttr(resultAttrs));
  return success();
}
