//===- Adapters.cpp - older opsets become the newest one --------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One row per operator and version at which its meaning or form changed. Changes
// that only add element types or optional attributes need no row.
//
//===----------------------------------------------------------------------===//
#include "NodeImporter.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "llvm/ADT/StringSwitch.h"

using namespace lowbit;
using namespace lowbit::onnx;

namespace {
struct Upgrade {
  PendingNode &node;
  OpBuilder &builder;
  SmallVectorImpl<Value> &results;

  SmallVector<int64_t> takeInts(StringRef name) {
    SmallVector<int64_t> values;
    if (auto array = dyn_cast_or_null<ArrayAttr>(node.attrs.erase(name)))
      for (Attribute value : array)
        if (auto integer = dyn_cast<IntegerAttr>(value))
          values.push_back(integer.getInt());
    return values;
  }
  int64_t takeInt(StringRef name, int64_t otherwise) {
    auto value = dyn_cast_or_null<IntegerAttr>(node.attrs.erase(name));
    return value ? value.getInt() : otherwise;
  }
  void setInput(size_t i, Value value) {
    if (node.operands.size() <= i)
      node.operands.resize(i + 1);
    node.operands[i] = value;
  }
  Value ints(ArrayRef<int64_t> values) { return makeInts(builder, node.loc, values); }
  Type element() {
    Type type = elementOf(node.operand(0));
    return type ? type : builder.getF32Type();
  }
  /// A helper op before the node; it carries the node's name and a suffix.
  Value helper(StringRef op, ValueRange operands, Type element, StringRef suffix,
               ArrayRef<NamedAttribute> attrs = {}) {
    OperationState state(node.loc, ("onnx." + op).str(), operands, UnrankedTensorType::get(element),
                         attrs);
    state.addAttribute("onnx_node_name", builder.getStringAttr(node.name + "/" + suffix));
    return builder.create(state)->getResult(0);
  }
  NamedAttribute intAttr(StringRef name, int64_t value) {
    return builder.getNamedAttr(name,
                                builder.getIntegerAttr(builder.getIntegerType(64, true), value));
  }
};
} // namespace

/// An attribute with integers became input `position`.
template <int position>
static void axesToInput(Upgrade &u) {
  if (u.node.attrs.get("axes"))
    u.setInput(position, u.ints(u.takeInts("axes")));
}

/// DFT's axis, by default the one behind the batch.
static void axisToInput(Upgrade &u) {
  int64_t axis = u.takeInt("axis", 1);
  u.setInput(2, makeScalar(u.builder, u.node.loc, u.builder.getI64Type(), axis));
}

static void splitToInput(Upgrade &u) {
  if (u.node.attrs.get("split"))
    u.setInput(1, u.ints(u.takeInts("split")));
}

/// Before 18 no sizes meant equal parts; now the number of parts must be said.
static void splitCount(Upgrade &u) {
  if (!u.node.operand(1))
    u.node.attrs.set("num_outputs", u.intAttr("", u.node.used.size()).getValue());
}

static void clipToInputs(Upgrade &u) {
  for (auto [position, name] : {std::pair<int, StringRef>(1, "min"), {2, "max"}})
    if (auto value = dyn_cast_or_null<FloatAttr>(u.node.attrs.erase(name)))
      u.setInput(position,
                 makeScalar(u.builder, u.node.loc, u.element(), value.getValueAsDouble()));
}

static void padToInputs(Upgrade &u) {
  u.setInput(1, u.ints(u.takeInts("pads")));
  if (auto value = dyn_cast_or_null<FloatAttr>(u.node.attrs.erase("value")))
    u.setInput(2, makeScalar(u.builder, u.node.loc, u.element(), value.getValueAsDouble()));
}

static void sliceToInputs(Upgrade &u) {
  u.setInput(1, u.ints(u.takeInts("starts")));
  u.setInput(2, u.ints(u.takeInts("ends")));
  if (u.node.attrs.get("axes"))
    u.setInput(3, u.ints(u.takeInts("axes")));
}

static void topKToInput(Upgrade &u) { u.setInput(1, u.ints({u.takeInt("k", 1)})); }

/// Before 13 Softmax, LogSoftmax and Hardmax flattened their input to 2-D at `axis` (1 where not
/// given).
static void flattenSoftmax(Upgrade &u) {
  Value input = u.node.operand(0);
  if (!input)
    return;
  int64_t axis = u.takeInt("axis", 1);
  auto ranked = dyn_cast<RankedTensorType>(input.getType());
  if (axis == -1 || (ranked && axis == ranked.getRank() - 1)) {
    u.node.attrs.set("axis", u.intAttr("", -1).getValue());
    return;
  }
  Value shape = u.helper("Shape", input, u.builder.getI64Type(), "shape");
  Value flat = u.helper("Flatten", input, u.element(), "flatten", u.intAttr("axis", axis));
  OperationState state(u.node.loc, "onnx." + u.node.opType, flat,
                       UnrankedTensorType::get(u.element()), u.intAttr("axis", -1));
  state.addAttribute("onnx_node_name", u.builder.getStringAttr(u.node.name));
  Value soft = u.builder.create(state)->getResult(0);
  u.results.push_back(u.helper("Reshape", {soft, shape}, u.element(), "reshape"));
}

static void batchNormSpatial(Upgrade &u) {
  if (u.takeInt("spatial", 1) != 1)
    u.node.unsupported = "statistics per element (spatial = 0) are not supported";
}

/// From 9 to 13 extra outputs meant training, and there were four of them; from 14 an attribute
/// says it.
static void batchNormOutputs(Upgrade &u) {
  bool extra = false;
  for (size_t i = 1; i < u.node.used.size(); ++i)
    extra |= u.node.used[i];
  if (extra)
    u.node.unsupported = "training mode before opset 14 is not supported";
  u.node.used.resize(1), u.node.declared.resize(1);
}

/// At inference Dropout is the identity, and so it is where it drops nothing; its mask is true
/// throughout.
static void dropToIdentity(Upgrade &u) {
  auto isZero = [](Value value) {
    std::optional<ConstantData> data = value ? ConstantData::get(value) : std::nullopt;
    if (!data || data->getType().getNumElements() != 1)
      return false;
    return isa<FloatType>(data->getType().getElementType()) ? data->toFloats()[0] == 0
                                                            : data->toInts()[0] == 0;
  };
  Value mode = u.node.operand(2), input = u.node.operand(0);
  if (mode && !isZero(mode) && !isZero(u.node.operand(1))) {
    u.node.unsupported = "training mode is not supported";
    return;
  }
  if (u.node.usesOutput(1) && input) {
    u.results.push_back(u.helper("Identity", input, u.element(), "identity"));
    // The type of the mask was the input's before opset 10.
    Type type = u.node.opset < 10 ? u.element() : u.builder.getI1Type();
    auto one = RankedTensorType::get({1}, type);
    Attribute yes = isa<FloatType>(type) ? (Attribute)u.builder.getFloatAttr(type, 1)
                                         : u.builder.getBoolAttr(true);
    Value shape = u.helper("Shape", input, u.builder.getI64Type(), "shape");
    u.results.push_back(
        u.helper("ConstantOfShape", shape, type, "mask",
                 u.builder.getNamedAttr("value", DenseElementsAttr::get(one, yes))));
    return;
  }
  u.node.opType = "Identity";
  u.node.operands.resize(1);
  u.node.attrs = {};
  u.node.used.resize(1), u.node.declared.resize(1);
}

static void setResizeDefaults(Upgrade &u) {
  u.node.opType = "Resize";
  u.node.attrs.set("coordinate_transformation_mode", u.builder.getStringAttr("asymmetric"));
  u.node.attrs.set("nearest_mode", u.builder.getStringAttr("floor"));
}

/// Resize-10 is (X, scales) and has one coordinate mode.
static void resizeFrom10(Upgrade &u) {
  Value scales = u.node.operand(1);
  u.node.operands = {u.node.operand(0), Value(), scales};
  setResizeDefaults(u);
}

static void upsampleScales(Upgrade &u) {
  auto array = dyn_cast_or_null<ArrayAttr>(u.node.attrs.erase("scales"));
  std::vector<float> scales;
  for (Attribute value : array ? array.getValue() : ArrayRef<Attribute>())
    if (auto number = dyn_cast<FloatAttr>(value))
      scales.push_back(number.getValueAsDouble());
  auto type = RankedTensorType::get(scales.size(), u.builder.getF32Type());
  OperationState state(u.node.loc, "onnx.Constant", {}, type, {});
  state.addAttribute("value", DenseElementsAttr::get(type, ArrayRef<float>(scales)));
  u.setInput(1, u.builder.create(state)->getResult(0));
}

static constexpr char scatterElements[] = "ScatterElements";
static constexpr char randomNumbers[] = "random numbers are not supported";

/// Another name for the same.
template <const char *name>
static void renameTo(Upgrade &u) {
  u.node.opType = name;
}

template <const char *why>
static void refuse(Upgrade &u) {
  u.node.unsupported = why;
}

/// A tensor is an optional value that is there.
static void optionalElement(Upgrade &u) {
  if (u.node.operand(0))
    u.node.opType = "Identity";
}

static void optionalPresence(Upgrade &u) {
  bool present = (bool)u.node.operand(0);
  u.results.push_back(makeScalar(u.builder, u.node.loc, u.builder.getI1Type(), present));
}

/// Before 16 the corners of a region were not shifted by half a pixel, and there was no choice.
static void roiAlignCorners(Upgrade &u) {
  u.node.attrs.set("coordinate_transformation_mode", u.builder.getStringAttr("output_half_pixel"));
}

/// onnxruntime's name, in ONNX's own domain, for what is RMSNormalization since 23.
static void simplifiedNorm(Upgrade &u) {
  if (u.node.usesOutput(1)) {
    u.node.unsupported = "the second output is not supported";
    return;
  }
  u.node.opType = "RMSNormalization";
  u.node.used.resize(1), u.node.declared.resize(1);
}

namespace {
struct Row {
  StringRef op;
  int64_t before; ///< Applies to models of an opset below this.
  void (*apply)(Upgrade &);
};
constexpr int64_t always = INT64_MAX;
} // namespace

// In the order of application: a node may need several.
static const Row rows[] = {
    {"Upsample", 9, upsampleScales},
    {"Upsample", always, resizeFrom10},
    {"Resize", 11, resizeFrom10},
    {"Squeeze", 13, axesToInput<1>},
    {"Unsqueeze", 13, axesToInput<1>},
    {"ReduceSum", 13, axesToInput<1>},
    {"ReduceMean", 18, axesToInput<1>},
    {"ReduceMax", 18, axesToInput<1>},
    {"ReduceMin", 18, axesToInput<1>},
    {"ReduceProd", 18, axesToInput<1>},
    {"ReduceL1", 18, axesToInput<1>},
    {"ReduceL2", 18, axesToInput<1>},
    {"ReduceLogSum", 18, axesToInput<1>},
    {"ReduceLogSumExp", 18, axesToInput<1>},
    {"ReduceSumSquare", 18, axesToInput<1>},
    {"Split", 13, splitToInput},
    {"Split", 18, splitCount},
    {"Clip", 11, clipToInputs},
    {"Pad", 11, padToInputs},
    {"Slice", 10, sliceToInputs},
    {"TopK", 10, topKToInput},
    {"Softmax", 13, flattenSoftmax},
    {"LogSoftmax", 13, flattenSoftmax},
    {"Hardmax", 13, flattenSoftmax},
    {"DFT", 20, axisToInput},
    {"BatchNormalization", 9, batchNormSpatial},
    {"BatchNormalization", 14, batchNormOutputs},
    {"Dropout", always, dropToIdentity},
    {"Scatter", always, renameTo<scatterElements>},
    {"OptionalGetElement", always, optionalElement},
    {"OptionalHasElement", always, optionalPresence},
    {"RoiAlign", 16, roiAlignCorners},
    {"SimplifiedLayerNormalization", always, simplifiedNorm},
    {"Bernoulli", always, refuse<randomNumbers>},
    {"Multinomial", always, refuse<randomNumbers>},
    {"RandomNormal", always, refuse<randomNumbers>},
    {"RandomNormalLike", always, refuse<randomNumbers>},
    {"RandomUniform", always, refuse<randomNumbers>},
    {"RandomUniformLike", always, refuse<randomNumbers>},
};

void lowbit::onnx::upgradeNode(PendingNode &node, OpBuilder &builder,
                               SmallVectorImpl<Value> &results) {
  if (!node.domain.empty())
    return;
  Upgrade upgrade{node, builder, results};
  std::string op = node.opType;
  for (const Row &row : rows)
    if (row.op == op && node.opset < row.before && results.empty())
      row.apply(upgrade);
}
