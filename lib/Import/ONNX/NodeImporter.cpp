//===- NodeImporter.cpp - one node of the file becomes ops ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "NodeImporter.h"
#include "Contrib.h"
#include "Schema.h"
#include "TensorReader.h"
#include "mlir/IR/Diagnostics.h"
#include "onnx-ml.pb.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"

using namespace lowbit;
using namespace lowbit::onnx;
using ::onnx::AttributeProto;
using ::onnx::NodeProto;

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

/// Files of the first IR versions leave the type of an attribute out: the field that is set says
/// it.
static AttributeProto::AttributeType typeOf(const AttributeProto &attr) {
  if (attr.type() != AttributeProto::UNDEFINED)
    return attr.type();
  if (attr.has_f())
    return AttributeProto::FLOAT;
  if (attr.has_i())
    return AttributeProto::INT;
  if (attr.has_s())
    return AttributeProto::STRING;
  if (attr.has_t())
    return AttributeProto::TENSOR;
  if (attr.has_g())
    return AttributeProto::GRAPH;
  if (attr.floats_size())
    return AttributeProto::FLOATS;
  if (attr.ints_size())
    return AttributeProto::INTS;
  if (attr.strings_size())
    return AttributeProto::STRINGS;
  return AttributeProto::UNDEFINED;
}

FailureOr<NamedAttrList> lowbit::onnx::importAttributes(const NodeProto &node, Location loc,
                                                        TensorReader &tensors, MLIRContext *context,
                                                        std::string &unsupported) {
  Builder b(context);
  NamedAttrList list;
  llvm::StringSet<> seen;
  for (const AttributeProto &attr : node.attribute()) {
    StringRef name = attr.name();
    auto where = [&] { return ("attribute '" + name + "' of " + node.op_type() + " node").str(); };
    if (name.empty() || !seen.insert(name).second)
      return emitError(loc) << where() << (name.empty() ? " has no name" : " is given twice"),
             failure();
    if (!attr.ref_attr_name().empty())
      return emitError(loc) << where() << " refers to a function's attribute outside a function",
             failure();
    Attribute value;
    switch (typeOf(attr)) {
    case AttributeProto::FLOAT:
      value = b.getF32FloatAttr(attr.f());
      break;
    case AttributeProto::INT:
      value = b.getIntegerAttr(b.getIntegerType(64, /*isSigned=*/true), attr.i());
      break;
    case AttributeProto::STRING:
      value = b.getStringAttr(attr.s());
      break;
    case AttributeProto::INTS:
      value = b.getI64ArrayAttr(SmallVector<int64_t>(attr.ints().begin(), attr.ints().end()));
      break;
    case AttributeProto::FLOATS:
      value = b.getF32ArrayAttr(SmallVector<float>(attr.floats().begin(), attr.floats().end()));
      break;
    case AttributeProto::STRINGS:
      value =
          b.getStrArrayAttr(SmallVector<StringRef>(attr.strings().begin(), attr.strings().end()));
      break;
    case AttributeProto::TENSOR:
      value = tensors.read(attr.t(), loc, where());
      if (!value)
        return failure();
      break;
    case AttributeProto::GRAPH:
    case AttributeProto::GRAPHS:
      if (!hasBodies(node.domain() == "ai.onnx" ? "" : node.domain(), node.op_type()))
        unsupported = "graphs inside this operator are not supported";
      continue;
    default:
      return emitError(loc) << where() << " has kind "
                            << AttributeProto::AttributeType_Name(attr.type())
                            << ", which is not supported",
             failure();
    }
    list.append(name, value);
  }
  return list;
}

//===----------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------===//

Value lowbit::onnx::makeInts(OpBuilder &builder, Location loc, ArrayRef<int64_t> values) {
  auto type = RankedTensorType::get(values.size(), builder.getI64Type());
  OperationState state(loc, "onnx.Constant", {}, type, {});
  state.addAttribute("value", DenseElementsAttr::get(type, values));
  return builder.create(state)->getResult(0);
}

Value lowbit::onnx::makeScalar(OpBuilder &builder, Location loc, Type elementType, double value) {
  auto type = RankedTensorType::get({}, elementType);
  Attribute element = isa<FloatType>(elementType)
                          ? (Attribute)builder.getFloatAttr(elementType, value)
                          : builder.getIntegerAttr(elementType, (int64_t)value);
  OperationState state(loc, "onnx.Constant", {}, type, {});
  state.addAttribute("value", DenseElementsAttr::get(type, element));
  return builder.create(state)->getResult(0);
}

Value lowbit::onnx::makeNoValue(OpBuilder &builder, Location loc) {
  OperationState state(loc, "onnx.NoValue", {}, builder.getNoneType(), {});
  state.addAttribute("value", builder.getUnitAttr());
  return builder.create(state)->getResult(0);
}

Type lowbit::onnx::elementOf(Value value) {
  auto shaped = value ? dyn_cast<ShapedType>(value.getType()) : ShapedType();
  return shaped ? shaped.getElementType() : Type();
}

/// The element type of result `index` by the rule of the operator's schema; null where nothing that
/// it names is there. Shapes come later.
static Type resultElement(const PendingNode &node, const OperatorSchema &schema, size_t index,
                          Builder &b) {
  SmallVector<StringRef> rules, alternatives;
  schema.elements.split(rules, ' ');
  rules[std::min(index, rules.size() - 1)].split(alternatives, ',');
  for (StringRef source : alternatives) {
    int64_t number = 0;
    Type type;
    if (source.consume_front("@")) {
      Attribute attr = node.attrs.get(source);
      if (auto tensor = dyn_cast_or_null<ElementsAttr>(attr))
        type = tensor.getElementType();
      else if (auto chosen = dyn_cast_or_null<IntegerAttr>(attr); chosen && chosen.getInt())
        return elementType(chosen.getInt(), b.getContext());
    } else if (source.consume_front("=")) {
      if (!source.getAsInteger(10, number))
        type = elementType(number, b.getContext());
    } else if (!source.getAsInteger(10, number)) {
      type = elementOf(node.operand(number));
    }
    if (type)
      return type;
  }
  return {};
}

static FailureOr<SmallVector<Value>> buildCustom(PendingNode &node, OpBuilder &builder) {
  OperationState state(node.loc, "onnx.Custom");
  for (Value operand : node.operands) {
    if (!operand)
      operand = makeNoValue(builder, node.loc);
    state.operands.push_back(operand);
  }
  state.attributes = node.attrs;
  state.addAttribute("function_name", builder.getStringAttr(node.opType));
  state.addAttribute("domain_name", builder.getStringAttr(node.domain));
  state.addAttribute("onnx_node_name", builder.getStringAttr(node.name));
  if (!node.unsupported.empty())
    state.addAttribute("reason", builder.getStringAttr(node.unsupported));
  Type element = elementOf(node.operand(0));
  Type unknown = UnrankedTensorType::get(element ? element : builder.getF32Type());
  for (Type declared : node.declared)
    state.types.push_back(declared ? declared : unknown);
  return SmallVector<Value>(builder.create(state)->getResults());
}

FailureOr<SmallVector<Value>> lowbit::onnx::buildNode(PendingNode &node, OpBuilder &builder) {
  SmallVector<Value> results;
  if (failed(expandContrib(node, builder, results)))
    return failure();
  if (!results.empty())
    return results;
  upgradeNode(node, builder, results);
  if (!results.empty())
    return results;
  if (!node.bodies.empty() && node.unsupported.empty())
    return buildControlFlow(node, builder);
  const OperatorSchema *schema =
      node.domain.empty() && node.unsupported.empty() ? findOperator(node.opType) : nullptr;
  if (!schema)
    return buildCustom(node, builder);

  auto fail = [&](const Twine &what) {
    emitError(node.loc) << node.opType << " node '" << node.name << "' " << what;
    return failure();
  };
  while (!node.operands.empty() && !node.operands.back())
    node.operands.pop_back();
  if ((int64_t)node.operands.size() > schema->inputs && !schema->variadicInput)
    return fail("has " + Twine(node.operands.size()) + " inputs; the operator takes at most " +
                Twine(schema->inputs));
  if ((int64_t)node.used.size() > schema->outputs && !schema->variadicOutput)
    return fail("has " + Twine(node.used.size()) + " outputs; the operator gives at most " +
                Twine(schema->outputs));
  if (schema->variadicInput && (int64_t)node.operands.size() < schema->inputs)
    return fail("has no inputs");
  int64_t fixed = schema->variadicInput ? node.operands.size() : schema->inputs;
  OperationState state(node.loc, "onnx." + node.opType);
  for (int64_t i = 0; i < fixed; ++i) {
    Value operand = node.operand(i);
    if (!operand && (i >= 64 || (schema->requiredInputs >> i & 1) || schema->variadicInput))
      return fail("lacks input " + Twine(i));
    if (!operand)
      operand = makeNoValue(builder, node.loc);
    state.operands.push_back(operand);
  }
  state.attributes = node.attrs;
  state.addAttribute("onnx_node_name", builder.getStringAttr(node.name));
  int64_t outputs = schema->variadicOutput ? node.used.size() : schema->outputs;
  for (int64_t i = 0; i < outputs; ++i) {
    if (!node.usesOutput(i) && !schema->variadicOutput) {
      state.types.push_back(builder.getNoneType());
      continue;
    }
    Type element = resultElement(node, *schema, i, builder);
    if (!element)
      return fail(
          "has no element type that can be told: an input or a type attribute is missing or "
          "not supported");
    state.types.push_back(UnrankedTensorType::get(element));
  }
  // Every output of a recurrent net is optional.
  bool recurrent = node.opType == "RNN" || node.opType == "GRU" || node.opType == "LSTM";
  auto missing = [](Type type) { return isa<NoneType>(type); };
  if (outputs && (recurrent ? llvm::all_of(state.types, missing) : missing(state.types[0])))
    return fail("does not name its first output");
  Operation *created = builder.create(state);
  // An attribute that is not of the kind the op wants does not arrive.
  for (NamedAttribute attr : node.attrs)
    if (created->getAttr(attr.getName()) != attr.getValue())
      return fail("has attribute '" + attr.getName().getValue() + "' of the wrong kind");
  return SmallVector<Value>(created->getResults().take_front(node.used.size()));
}
