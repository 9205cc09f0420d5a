//===- ControlFlow.cpp - If, Loop and Scan and the graphs inside them -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "GraphImporter.h"
#include "NodeImporter.h"
#include "mlir/IR/Diagnostics.h"

using namespace lowbit;
using namespace lowbit::onnx;
using ::onnx::GraphProto;
using ::onnx::ValueInfoProto;

bool lowbit::onnx::hasBodies(StringRef domain, StringRef opType) {
  return domain.empty() && (opType == "If" || opType == "Loop" || opType == "Scan");
}

/// Empty where every input and output of the graph is a tensor, as far as it says.
static std::string otherThanTensors(const GraphProto &graph) {
  for (const auto *list : {&graph.input(), &graph.output()})
    for (const ValueInfoProto &info : *list)
      if (info.has_type() && info.type().value_case() != ::onnx::TypeProto::kTensorType &&
          info.type().value_case() != ::onnx::TypeProto::VALUE_NOT_SET)
        return "value '" + info.name() +
               "' of its graph is not a tensor (sequences, maps, optional and sparse values are "
               "not supported)";
  return "";
}

/// What a body's argument is before shapes are inferred: only its element type.
static Type elementOnly(Value value, OpBuilder &builder) {
  Type element = elementOf(value);
  return UnrankedTensorType::get(element ? element : builder.getF32Type());
}

LogicalResult GraphImporter::importBodies(const NamedNode &node, PendingNode &pending) {
  StringRef op = pending.opType;
  auto fail = [&](const Twine &what) -> LogicalResult {
    return emitError(pending.loc) << op << " node '" << node.name << "' " << what;
  };
  SmallVector<StringRef> wanted = {"body"};
  if (op == "If")
    wanted = {"then_branch", "else_branch"};
  if (op == "Scan" && pending.opset < 9) {
    pending.unsupported =
        "the form of opset 8 is not supported (convert the model to opset 9 or newer)";
    return success();
  }
  // A trailing operand may be left out altogether.
  if (op == "Loop" && pending.operands.size() < 2)
    pending.operands.resize(2);
  size_t operands = pending.operands.size();
  if (op == "If" && (operands != 1 || !pending.operands[0]))
    return fail("needs one input, its condition");
  for (size_t i = op == "Loop" ? 2 : 0; i < operands; ++i)
    if (!pending.operands[i])
      return fail("lacks input " + Twine(i));

  SmallVector<Type> arguments;
  if (op == "Loop") {
    arguments.push_back(RankedTensorType::get({}, builder.getI64Type()));
    arguments.push_back(RankedTensorType::get({}, builder.getI1Type()));
    for (Value value : ArrayRef(pending.operands).drop_front(2))
      arguments.push_back(elementOnly(value, builder));
  } else if (op == "Scan") {
    for (Value value : pending.operands)
      arguments.push_back(elementOnly(value, builder));
  }
  for (StringRef name : wanted) {
    const NestedGraph *nested = nullptr;
    for (const NestedGraph &candidate : node.graphs)
      if (candidate.attribute == name)
        nested = &candidate;
    if (!nested)
      return fail("lacks its graph '" + name + "'");
    pending.unsupported = otherThanTensors(*nested->graph);
    if (!pending.unsupported.empty()) {
      pending.bodies.clear();
      return success();
    }
    OpBuilder::InsertionGuard guard(builder);
    resume = builder.saveInsertionPoint();
    GraphImporter importer(*nested->graph, *nested->nodes, tensors, builder, pending.loc, this);
    FailureOr<std::unique_ptr<Region>> body =
        importer.runBody(arguments, (op + " node '" + node.name + "'").str());
    if (failed(body))
      return failure();
    pending.bodies.push_back(std::move(*body));
  }
  return success();
}

FailureOr<std::unique_ptr<Region>> GraphImporter::runBody(ArrayRef<Type> arguments,
                                                          const std::string &user) {
  SmallVector<const NamedNode *> order;
  if (failed(collectNames()) || failed(sortNodes(order)))
    return failure();
  SmallVector<const ValueInfoProto *> inputs;
  for (const ValueInfoProto &info : graph.input())
    if (!initializers.count(info.name()))
      inputs.push_back(&info);
  if (inputs.size() != arguments.size())
    return emitError(loc) << user << " has a graph of " << inputs.size() << " inputs, expected "
                          << arguments.size();
  auto region = std::make_unique<Region>();
  Block *block = builder.createBlock(region.get());
  for (auto [info, type] : llvm::zip(inputs, arguments))
    values[info->name()] = block->addArgument(type, loc);
  for (const NamedNode *node : order)
    if (failed(importNode(*node)))
      return failure();
  SmallVector<Value> outputs;
  for (const ValueInfoProto &info : graph.output()) {
    Value value = lookup(info.name(), loc, user);
    if (!value)
      return failure();
    outputs.push_back(value);
  }
  OperationState state(loc, "onnx.Yield", outputs, {}, {});
  builder.create(state);
  return region;
}

FailureOr<SmallVector<Value>> lowbit::onnx::buildControlFlow(PendingNode &node,
                                                             OpBuilder &builder) {
  auto fail = [&](const Twine &what) {
    emitError(node.loc) << node.opType << " node '" << node.name << "' " << what;
    return failure();
  };
  OperandRange outputs = node.bodies[0]->front().getTerminator()->getOperands();
  size_t skipped = 0, carried = 0;
  if (node.opType == "Loop") {
    skipped = 1;
    carried = node.operands.size() - 2;
  } else if (node.opType == "Scan") {
    auto count = dyn_cast_or_null<IntegerAttr>(node.attrs.get("num_scan_inputs"));
    int64_t inputs = count ? count.getValue().getSExtValue() : 0;
    if (inputs < 1 || inputs > (int64_t)node.operands.size())
      return fail("needs num_scan_inputs between 1 and its number of inputs");
    carried = node.operands.size() - inputs;
  }
  if (outputs.size() < skipped + carried || node.used.size() > outputs.size() - skipped)
    return fail("has a graph of " + Twine(outputs.size()) +
                " outputs, which does not fit the node");
  OperationState state(node.loc, "onnx." + node.opType);
  for (Value operand : node.operands) {
    if (!operand)
      operand = makeNoValue(builder, node.loc);
    state.operands.push_back(operand);
  }
  for (auto [i, output] : llvm::enumerate(outputs.drop_front(skipped))) {
    Type type = elementOf(output);
    Value other;
    if (node.opType == "If") {
      OperandRange others = node.bodies[1]->front().getTerminator()->getOperands();
      if (others.size() != outputs.size())
        return fail("has branches of " + Twine(outputs.size()) + " and " + Twine(others.size()) +
                    " outputs");
      other = others[i];
    } else if (i < carried) {
      other = node.operands[i + (node.opType == "Loop" ? 2 : 0)];
    }
    // An unsupported operator may give anything: it is reported as such.
    auto unknown = [](Value value) {
      Operation *source = value.getDefiningOp();
      return source && source->getName().getStringRef() == "onnx.Custom";
    };
    if (other && elementOf(other) != type && !unknown(other) && !unknown(output)) {
      emitError(node.loc) << node.opType << " node '" << node.name << "' output " << i
                          << " would have element type " << elementOf(other) << " or " << type;
      return failure();
    }
    state.types.push_back(UnrankedTensorType::get(type));
  }
  state.attributes = node.attrs;
  state.addAttribute("onnx_node_name", builder.getStringAttr(node.name));
  for (std::unique_ptr<Region> &body : node.bodies)
    state.addRegion(std::move(body));
  node.bodies.clear();
  return SmallVector<Value>(builder.create(state)->getResults().take_front(node.used.size()));
}
