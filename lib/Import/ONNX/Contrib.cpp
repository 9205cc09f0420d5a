//===- Contrib.cpp - operators of onnxruntime's own domain ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Contrib.h"
#include "Schema.h"
#include "TensorReader.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/TypeUtilities.h"
#include "llvm/ADT/StringSet.h"

using namespace lowbit;
using namespace lowbit::onnx;

static IntegerType intType(Builder &b) { return b.getIntegerType(64, /*isSigned=*/true); }

/// The number of TensorProto.DataType that is `type`.
static int64_t dataTypeNumber(Type type) {
  for (int64_t number = 1; number < 64; ++number)
    if (elementType(number, type.getContext()) == type)
      return number;
  return 0;
}

Type Contrib::element(size_t i) const { return elementOf(in(i)); }

int64_t Contrib::takeInt(StringRef name, int64_t otherwise) {
  auto value = dyn_cast_or_null<IntegerAttr>(attrs.erase(name));
  return value ? value.getValue().getSExtValue() : otherwise;
}

std::optional<double> Contrib::takeFloat(StringRef name) {
  auto value = dyn_cast_or_null<FloatAttr>(attrs.erase(name));
  return value ? std::optional<double>(value.getValueAsDouble()) : std::nullopt;
}

double Contrib::takeFloat(StringRef name, double otherwise) {
  return takeFloat(name).value_or(otherwise);
}

std::string Contrib::takeString(StringRef name, StringRef otherwise) {
  auto value = dyn_cast_or_null<StringAttr>(attrs.erase(name));
  return value ? value.str() : otherwise.str();
}

SmallVector<int64_t> Contrib::takeInts(StringRef name) {
  SmallVector<int64_t> values;
  if (auto array = dyn_cast_or_null<ArrayAttr>(attrs.erase(name)))
    for (Attribute value : array)
      if (auto integer = dyn_cast<IntegerAttr>(value))
        values.push_back(integer.getValue().getSExtValue());
  return values;
}

LogicalResult Contrib::refuse(const Twine &why) {
  node.unsupported = why.str();
  return success();
}

LogicalResult Contrib::invalid(const Twine &what) {
  return emitError(node.loc) << node.opType << " node '" << node.name << "' " << what;
}

NamedAttribute Contrib::attr(StringRef name, int64_t value) {
  return builder.getNamedAttr(name, builder.getIntegerAttr(intType(builder), value));
}
NamedAttribute Contrib::attr(StringRef name, double value) {
  return builder.getNamedAttr(name, builder.getF32FloatAttr(value));
}
NamedAttribute Contrib::attr(StringRef name, StringRef value) {
  return builder.getNamedAttr(name, builder.getStringAttr(value));
}
NamedAttribute Contrib::attr(StringRef name, ArrayRef<int64_t> values) {
  return builder.getNamedAttr(name, builder.getI64ArrayAttr(values));
}

SmallVector<Value> Contrib::makeSome(StringRef op, ArrayRef<Value> operands, StringRef suffix,
                                     ArrayRef<NamedAttribute> list, ArrayRef<bool> used) {
  SmallVector<Value> none(used.size());
  if (failed)
    return none;
  std::string name = node.name + (suffix.empty() ? "" : "/") + suffix.str();
  PendingNode made{op.str(), "", newestOpset(), name, node.loc, {}, {}, {}, {}, {}, {}};
  made.operands.append(operands.begin(), operands.end());
  made.attrs.append(list);
  made.used.append(used.begin(), used.end());
  made.declared.resize(used.size());
  FailureOr<SmallVector<Value>> built = buildNode(made, builder);
  failed |= mlir::failed(built);
  return failed ? none : *built;
}

Value Contrib::make(StringRef op, ArrayRef<Value> operands, StringRef suffix,
                    ArrayRef<NamedAttribute> list) {
  return makeSome(op, operands, suffix, list, {true})[0];
}

Value Contrib::tensor(RankedTensorType type, ArrayRef<char> bytes, StringRef name) {
  OperationState state(node.loc, "onnx.Constant", {}, type, {});
  state.addAttribute("value", makeConstant(type, bytes, name));
  state.addAttribute("onnx_name", builder.getStringAttr(name));
  return builder.create(state)->getResult(0);
}

Value Contrib::cast(Value x, Type type, StringRef suffix) {
  if (!x || getElementTypeOrSelf(x.getType()) == type)
    return x;
  int64_t number = dataTypeNumber(type);
  return make("Cast", {x}, suffix, attr("to", number));
}

Value Contrib::reshape(Value x, ArrayRef<int64_t> shape, StringRef suffix) {
  return make("Reshape", {x, ints(shape)}, suffix);
}

Value Contrib::transpose(Value x, ArrayRef<int64_t> perm, StringRef suffix) {
  return make("Transpose", {x}, suffix, attr("perm", perm));
}

Value Contrib::dim(Value x, int64_t i, StringRef suffix) {
  return make("Shape", {x}, suffix, {attr("end", i + 1), attr("start", i)});
}

Value Contrib::unsqueeze(Value x, ArrayRef<int64_t> axes, StringRef suffix) {
  return make("Unsqueeze", {x, ints(axes)}, suffix);
}

LogicalResult Contrib::rename(StringRef op, ArrayRef<NamedAttribute> list) {
  if (failed)
    return failure();
  node.domain.clear();
  node.opset = newestOpset();
  node.opType = op.str();
  node.attrs = NamedAttrList(list);
  return success();
}

LogicalResult Contrib::give(ArrayRef<Value> values) {
  if (failed)
    return failure();
  results.append(values.begin(), values.end());
  results.resize(node.used.size());
  return success();
}

std::optional<int64_t> lowbit::onnx::knownRank(Value value) {
  llvm::DenseMap<Value, std::optional<int64_t>> known;
  auto rank = [&](auto &self, Value x, int depth) -> std::optional<int64_t> {
    if (!x || isa<NoneType>(x.getType()))
      return std::nullopt;
    if (auto type = dyn_cast<RankedTensorType>(x.getType()))
      return type.getRank();
    Operation *op = x.getDefiningOp();
    if (!op || depth > 1000)
      return std::nullopt;
    auto [entry, isNew] = known.try_emplace(x);
    if (!isNew)
      return entry->second;
    StringRef name = op->getName().stripDialect();
    auto operand = [&](unsigned i) {
      return i < op->getNumOperands() ? self(self, op->getOperand(i), depth + 1) : std::nullopt;
    };
    std::optional<int64_t> found;
    static const llvm::StringSet<> same = {"Cast",
                                           "Clip",
                                           "Concat",
                                           "CumSum",
                                           "Dropout",
                                           "Erf",
                                           "Exp",
                                           "Gelu",
                                           "Identity",
                                           "LayerNormalization",
                                           "Neg",
                                           "Not",
                                           "QuantizeLinear",
                                           "DequantizeLinear",
                                           "RMSNormalization",
                                           "Relu",
                                           "RotaryEmbedding",
                                           "Sigmoid",
                                           "Slice",
                                           "Softmax",
                                           "Split",
                                           "Sqrt",
                                           "Swish",
                                           "Tanh",
                                           "Transpose",
                                           "Attention",
                                           "TensorScatter",
                                           "Pad"};
    static const llvm::StringSet<> broadcast = {
        "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
        "Min", "Mul", "Or",  "Pow",   "Sub",     "Where"};
    auto count =
        [&](unsigned i) -> std::optional<int64_t> { // How many entries a constant list has.
      std::optional<ConstantData> data =
          i < op->getNumOperands() && !isa<NoneType>(op->getOperand(i).getType())
              ? ConstantData::get(op->getOperand(i))
              : std::nullopt;
      return data ? std::optional<int64_t>(data->getType().getNumElements()) : std::nullopt;
    };
    if (same.contains(name)) {
      found = operand(0);
    } else if (broadcast.contains(name)) {
      for (unsigned i = 0; i < op->getNumOperands(); ++i) {
        std::optional<int64_t> one = operand(i);
        found = one && (i == 0 || found) ? std::optional<int64_t>(std::max(*one, found.value_or(0)))
                                         : std::nullopt;
        if (!found)
          break;
      }
    } else if (name == "MatMul") {
      std::optional<int64_t> a = operand(0), b = operand(1);
      if (a && b && *a > 1 && *b > 1)
        found = std::max(*a, *b);
    } else if (name == "Gather") {
      std::optional<int64_t> data = operand(0), indices = operand(1);
      if (data && indices)
        found = *data + *indices - 1;
    } else if (name == "Reshape" || name == "Expand") {
      found = count(1);
    } else if (name == "Unsqueeze" || name == "Squeeze") {
      std::optional<int64_t> data = operand(0), axes = count(1);
      if (data && axes)
        found = name == "Squeeze" ? *data - *axes : *data + *axes;
    } else if (name.starts_with("Reduce")) {
      auto keep = op->getAttrOfType<IntegerAttr>("keepdims");
      std::optional<int64_t> data = operand(0), axes = count(1);
      if (!keep || keep.getValue().getSExtValue() == 1)
        found = data;
      else if (data && axes)
        found = *data - *axes;
    }
    known[x] = found;
    return found;
  };
  return rank(rank, value, 0);
}

static const ContribTable &contribTable() {
  static const ContribTable table = [] {
    ContribTable all;
    addContribAttention(all);
    addContribElementwise(all);
    addContribGroupQuery(all);
    addContribQuantized(all);
    addContribWeights(all);
    return all;
  }();
  return table;
}

LogicalResult lowbit::onnx::expandContrib(PendingNode &node, OpBuilder &builder,
                                          SmallVectorImpl<Value> &results) {
  ContribFunction expand = contribTable().lookup(node.domain + "/" + node.opType);
  if (!expand || !node.unsupported.empty())
    return success();
  Contrib contrib(node, builder, results);
  if (failed(expand(contrib)))
    return failure();
  if (!contrib.rest().empty() && node.unsupported.empty()) {
    results.clear();
    node.unsupported =
        "attribute '" + contrib.rest().begin()->getName().str() + "' is not supported";
    if (node.domain.empty())
      node.domain = "com.microsoft";
  }
  return success();
}
