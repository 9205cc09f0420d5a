//===- GraphWriter.cpp - a function of the qdq form as a GraphProto -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "GraphWriter.h"
#include "Versions.h"
#include "lowbit/Dialect/ONNX/IR/DimParams.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;
using ::onnx::AttributeProto;
using ::onnx::NodeProto;
using ::onnx::TensorProto;

/// ONNX's number of an element type; 0 where it has none. 3-bit integers are stored in 4 bits.
static int dataType(Type type) {
  if (auto integer = dyn_cast<IntegerType>(type)) {
    bool isUnsigned = integer.isUnsigned();
    switch (integer.getWidth()) {
    case 1:
      return TensorProto::BOOL;
    case 3:
    case 4:
      return isUnsigned ? TensorProto::UINT4 : TensorProto::INT4;
    case 8:
      return isUnsigned ? TensorProto::UINT8 : TensorProto::INT8;
    case 16:
      return isUnsigned ? TensorProto::UINT16 : TensorProto::INT16;
    case 32:
      return isUnsigned ? TensorProto::UINT32 : TensorProto::INT32;
    case 64:
      return isUnsigned ? TensorProto::UINT64 : TensorProto::INT64;
    default:
      return 0;
    }
  }
  return type.isF32()    ? TensorProto::FLOAT
         : type.isF64()  ? TensorProto::DOUBLE
         : type.isF16()  ? TensorProto::FLOAT16
         : type.isBF16() ? TensorProto::BFLOAT16
                         : 0;
}

/// One element per byte to two, the first one in the low half.
static std::string packNibbles(ArrayRef<char> bytes) {
  std::string packed((bytes.size() + 1) / 2, 0);
  for (size_t i = 0; i < bytes.size(); ++i)
    packed[i / 2] |= char((bytes[i] & 15) << (i % 2 * 4));
  return packed;
}

std::string GraphWriter::fresh(const std::string &base, llvm::StringSet<> &taken) {
  std::string name = base;
  for (int suffix = 1; !taken.insert(name).second; ++suffix)
    name = base + "_" + std::to_string(suffix);
  return name;
}

NodeProto &GraphWriter::addNode(StringRef op, const std::string &name) {
  NodeProto &node = *graph.add_node();
  node.set_op_type(op.str());
  node.set_name(fresh(name, nodes));
  return node;
}

void GraphWriter::nameResult(NodeProto &node, Value result, const std::string &base) {
  std::string &name = names[result];
  if (name.empty())
    name = fresh(base);
  node.add_output(name);
}

LogicalResult GraphWriter::writeTensor(TensorProto &tensor, Attribute value, Type element,
                                       Location loc) {
  std::optional<ConstantData> data = ConstantData::get(value);
  int type = element ? dataType(element) : 0;
  if (!data || !type)
    return emitError(loc) << "a constant has no ONNX form", failure();
  tensor.set_data_type(type);
  std::string packed;
  ArrayRef<char> bytes = data->bytes();
  if (type == TensorProto::INT4 || type == TensorProto::UINT4) {
    packed = packNibbles(bytes);
    bytes = packed;
  }
  constexpr size_t inside = 1024, alignment = 4096;
  if (!options.data || bytes.size() < inside) {
    tensor.set_raw_data(bytes.data(), bytes.size());
    return success();
  }
  uint64_t start = llvm::alignTo(dataOffset, alignment);
  options.data->write_zeros(start - dataOffset);
  options.data->write(bytes.data(), bytes.size());
  dataOffset = start + bytes.size();
  tensor.set_data_location(TensorProto::EXTERNAL);
  for (auto [key, text] : {std::pair<const char *, std::string>("location", options.dataFile),
                           {"offset", std::to_string(start)},
                           {"length", std::to_string(bytes.size())}}) {
    auto *entry = tensor.add_external_data();
    entry->set_key(key);
    entry->set_value(text);
  }
  return success();
}

std::string GraphWriter::initializer(Attribute value, Type element, ArrayRef<int64_t> shape,
                                     const std::string &name, Location loc) {
  TensorProto &tensor = *graph.add_initializer();
  tensor.set_name(fresh(name));
  for (int64_t extent : shape)
    tensor.add_dims(extent);
  return succeeded(writeTensor(tensor, value, element, loc)) ? tensor.name() : std::string();
}

std::string GraphWriter::nameOf(Value value, const std::string &base) {
  if (auto found = names.find(value); found != names.end())
    return found->second;
  Operation *op = value.getDefiningOp();
  auto type = dyn_cast<RankedTensorType>(value.getType());
  Attribute constant = op && op->getNumOperands() == 0 ? op->getAttr("value") : Attribute();
  if (!constant || !type) {
    emitError(value.getLoc()) << "a value that nothing in the ONNX form defines";
    return {};
  }
  auto given = op->getAttrOfType<StringAttr>("onnx_name");
  std::string name = initializer(constant, type.getElementType(), type.getShape(),
                                 given ? given.str() : base, op->getLoc());
  return names[value] = name;
}

//===----------------------------------------------------------------------===//
// Nodes
//===----------------------------------------------------------------------===//

LogicalResult GraphWriter::writeAttribute(NodeProto &node, Operation *op, NamedAttribute attr) {
  StringRef name = attr.getName();
  Attribute value = attr.getValue();
  AttributeProto &proto = *node.add_attribute();
  proto.set_name(name.str());
  if (auto number = dyn_cast<IntegerAttr>(value)) {
    proto.set_type(AttributeProto::INT);
    proto.set_i(number.getValue().getSExtValue());
  } else if (auto number = dyn_cast<FloatAttr>(value)) {
    proto.set_type(AttributeProto::FLOAT);
    proto.set_f(float(number.getValueAsDouble()));
  } else if (auto text = dyn_cast<StringAttr>(value)) {
    proto.set_type(AttributeProto::STRING);
    proto.set_s(text.str());
  } else if (auto tensor = dyn_cast<ElementsAttr>(value)) {
    proto.set_type(AttributeProto::TENSOR);
    for (int64_t extent : tensor.getShapedType().getShape())
      proto.mutable_t()->add_dims(extent);
    return writeTensor(*proto.mutable_t(), value, tensor.getElementType(), op->getLoc());
  } else if (auto array = dyn_cast<ArrayAttr>(value)) {
    proto.set_type(AttributeProto::INTS);
    for (Attribute element : array) {
      if (auto number = dyn_cast<IntegerAttr>(element)) {
        proto.add_ints(number.getValue().getSExtValue());
      } else if (auto number = dyn_cast<FloatAttr>(element)) {
        proto.set_type(AttributeProto::FLOATS);
        proto.add_floats(float(number.getValueAsDouble()));
      } else if (auto text = dyn_cast<StringAttr>(element)) {
        proto.set_type(AttributeProto::STRINGS);
        proto.add_strings(text.str());
      }
    }
  } else {
    return op->emitOpError("has attribute '") << name << "', which has no ONNX form";
  }
  return success();
}

LogicalResult GraphWriter::writeNode(Operation *op) {
  if (op->getNumRegions())
    return op->emitOpError("is control flow, which is not exported");
  StringRef name = getOperator(op);
  bool isCustom = name == "Custom";
  std::string domain = isCustom ? getString(op, "domain_name", "").str() : "";
  if (isCustom)
    name = getString(op, "function_name", "");
  std::string given = getString(op, "onnx_node_name", "").str();
  NodeProto &node = addNode(name, given.empty() ? name.str() : given);
  if (!domain.empty())
    node.set_domain(domain);
  int64_t last = op->getNumOperands();
  while (last > 0 && isAbsent(op->getOperand(last - 1)))
    --last;
  for (int64_t i = 0; i < last; ++i) {
    Value operand = op->getOperand(i);
    std::string input =
        isAbsent(operand) ? "" : nameOf(operand, node.name() + "_" + std::to_string(i));
    if (input.empty() && !isAbsent(operand))
      return failure();
    node.add_input(input);
  }
  auto outputs = options.names.outputs.find(given);
  last = op->getNumResults();
  while (last > 0 && isa<NoneType>(op->getResult(last - 1).getType()))
    --last;
  for (int64_t i = 0; i < last; ++i) {
    Value result = op->getResult(i);
    if (isa<NoneType>(result.getType())) {
      node.add_output("");
      continue;
    }
    std::string base = node.name() + "_output" + (i ? "_" + std::to_string(i) : "");
    if (outputs != options.names.outputs.end() && i < (int64_t)outputs->second.size() &&
        !outputs->second[i].empty())
      base = outputs->second[i];
    nameResult(node, result, base);
  }
  int64_t opset = model.opset_import(0).version();
  for (NamedAttribute attr : op->getAttrDictionary()) {
    StringRef key = attr.getName();
    if (key == "onnx_node_name" || key.starts_with("lowbit.") ||
        (isCustom && (key == "function_name" || key == "domain_name" || key == "reason")) ||
        (!isCustom && !hasAttribute(name, key, opset)))
      continue;
    if (failed(writeAttribute(node, op, attr)))
      return failure();
  }
  return success();
}

LogicalResult GraphWriter::writeParameters(NodeProto &node, Operation *op,
                                           const std::string &base) {
  Value scale = op->getOperand(1), zero = op->getOperand(2);
  auto integers = cast<RankedTensorType>(
      (isa<QuantizeOp>(op) ? op->getResult(0) : op->getOperand(0)).getType());
  auto real = cast<RankedTensorType>(
      (isa<QuantizeOp>(op) ? op->getOperand(0) : op->getResult(0)).getType());
  auto axis = op->getAttrOfType<IntegerAttr>("axis");
  int64_t group = getInt(op, "group", 0);
  auto scaleType = cast<RankedTensorType>(scale.getType());
  bool oneGroup =
      axis && group && scaleType.getDimSize(axis.getInt()) == 1 && integers.getRank() == 2;

  // A scale per row of one group is a scale per channel, which every runtime knows.
  SmallVector<int64_t> shape(scaleType.getShape());
  if (oneGroup)
    shape = {scaleType.getDimSize(1 - axis.getInt())};
  auto parameter = [&](Value value, const char *suffix, Type element) -> std::string {
    std::optional<ConstantData> data = ConstantData::get(value);
    bool same = element == cast<ShapedType>(value.getType()).getElementType();
    if (!data)
      return same && !oneGroup ? nameOf(value) : std::string();
    if (auto found = names.find(value); found != names.end() && same && !oneGroup)
      return found->second;
    Attribute attr = value.getDefiningOp()->getAttr("value");
    if (!same) {
      // A f16 model's scale, which the pivot holds as f32.
      SmallVector<Attribute> values;
      for (float number : data->toFloats())
        values.push_back(FloatAttr::get(element, number));
      attr = DenseElementsAttr::get(RankedTensorType::get(shape, element), values);
    }
    std::string name = initializer(attr, element, shape, base + suffix, op->getLoc());
    if (same && !oneGroup)
      names[value] = name;
    return name;
  };
  std::string scaleName = parameter(scale, "_scale", real.getElementType());
  if (scaleName.empty())
    return op->emitOpError("has a scale that has no ONNX form");
  node.add_input(scaleName);
  Type element = integers.getElementType();
  if (!element.isInteger(32)) {
    std::string zeroName = parameter(zero, "_zero_point", element);
    if (zeroName.empty())
      return op->emitOpError("has a zero point that has no ONNX form");
    node.add_input(zeroName);
  }
  auto set = [&](const char *name, int64_t value) {
    AttributeProto &proto = *node.add_attribute();
    proto.set_name(name);
    proto.set_type(AttributeProto::INT);
    proto.set_i(value);
  };
  if (axis)
    set("axis", oneGroup ? 1 - axis.getInt() : axis.getInt());
  if (group && !oneGroup)
    set("block_size", group);
  return success();
}

LogicalResult GraphWriter::writeQuantize(QuantizeOp op) {
  std::string x = nameOf(op.getInput());
  if (x.empty())
    return failure();
  NodeProto &node = addNode("QuantizeLinear", x + "_QuantizeLinear");
  node.add_input(x);
  if (failed(writeParameters(node, op, x)))
    return failure();
  nameResult(node, op.getOutput(), x + "_QuantizeLinear_Output");
  return success();
}

LogicalResult GraphWriter::writeDequantize(DequantizeOp op) {
  Operation *source = op.getInput().getDefiningOp();
  std::optional<ConstantData> data = ConstantData::get(op.getInput());
  std::string base;
  if (data) {
    auto given = source->getAttrOfType<StringAttr>("onnx_name");
    Operation *user = op->use_empty() ? nullptr : *op->user_begin();
    std::string layer = user ? getString(user, "onnx_node_name", "").str() : "";
    Type element = cast<ShapedType>(op.getInput().getType()).getElementType();
    base = given            ? given.str()
           : layer.empty() ? "weight"
                           : layer + (element.isInteger(32) ? "_bias" : "_weight");
    if (element.isInteger(32) && !runtime.integerBias) {
      // As the float numbers that it stands for.
      ArrayRef<int64_t> shape = data->getType().getShape();
      std::vector<int64_t> integers = data->toInts();
      std::optional<ConstantData> scale = ConstantData::get(op.getScale());
      if (!scale || shape.empty() || op.getGroup())
        return op.emitOpError("is a bias whose scale has no ONNX form");
      std::vector<float> scales = scale->toFloats(), real(integers.size());
      for (size_t i = 0; i < real.size(); ++i)
        real[i] = float(integers[i]) * scales[scales.size() == 1 ? 0 : i % scales.size()];
      Type f32 = Float32Type::get(op.getContext());
      names[op.getOutput()] = initializer(makeConstant(RankedTensorType::get(shape, f32), real),
                                          f32, shape, base, op.getLoc());
      return success();
    }
    if (!names.count(op.getInput()))
      names[op.getInput()] =
          initializer(source->getAttr("value"), element, data->getType().getShape(),
                      base + "_quantized", op.getLoc());
  } else {
    base = nameOf(op.getInput());
    if (StringRef(base).ends_with("_QuantizeLinear_Output"))
      base = StringRef(base).drop_back(StringRef("_QuantizeLinear_Output").size()).str();
  }
  std::string q = nameOf(op.getInput());
  if (q.empty())
    return failure();
  NodeProto &node = addNode("DequantizeLinear", base + "_DequantizeLinear");
  node.add_input(q);
  if (failed(writeParameters(node, op, base)))
    return failure();
  nameResult(node, op.getOutput(), base + "_DequantizeLinear_Output");
  return success();
}

/// tensor.expand_shape and collapse_shape of static shape.
LogicalResult GraphWriter::writeReshape(Operation *op) {
  auto type = cast<RankedTensorType>(op->getResult(0).getType());
  if (!type.hasStaticShape())
    return op->emitOpError("has a dynamic shape, which has no ONNX form here");
  std::string x = nameOf(op->getOperand(0));
  if (x.empty())
    return failure();
  NodeProto &node = addNode("Reshape", x + "_Reshape");
  Type i64 = IntegerType::get(op->getContext(), 64);
  std::vector<int64_t> shape = type.getShape().vec();
  int64_t rank = shape.size();
  std::string sizes = initializer(makeConstant(RankedTensorType::get({rank}, i64), shape), i64,
                                  {rank}, x + "_shape", op->getLoc());
  node.add_input(x);
  node.add_input(sizes);
  nameResult(node, op->getResult(0), x + "_Reshape_Output");
  return success();
}

LogicalResult GraphWriter::writeOp(Operation *op) {
  StringRef name = getOperator(op);
  if (name == "Constant" || name == "NoValue" || op->hasTrait<OpTrait::ConstantLike>())
    return success(); // Where they are used.
  if (!name.empty())
    return writeNode(op);
  if (auto quantize = dyn_cast<QuantizeOp>(op))
    return writeQuantize(quantize);
  if (auto dequantize = dyn_cast<DequantizeOp>(op))
    return writeDequantize(dequantize);
  if (isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp>(op))
    return writeReshape(op);
  return op->emitOpError("does not belong in the qdq form, which is what is exported");
}

//===----------------------------------------------------------------------===//
// The graph
//===----------------------------------------------------------------------===//

/// Name, type and dims of an input or output.
static LogicalResult describe(::onnx::ValueInfoProto &info, const std::string &name, Type type,
                              DictionaryAttr attrs, Location loc) {
  info.set_name(name);
  auto shaped = dyn_cast<ShapedType>(type);
  int element = shaped ? dataType(shaped.getElementType()) : 0;
  if (!element)
    return emitError(loc) << "'" << name << "' has a type without an ONNX form", failure();
  auto *tensor = info.mutable_type()->mutable_tensor_type();
  tensor->set_elem_type(element);
  if (!shaped.hasRank())
    return success();
  auto *shape = tensor->mutable_shape();
  for (int64_t extent : shaped.getShape()) {
    auto *dim = shape->add_dim();
    if (!ShapedType::isDynamic(extent))
      dim->set_dim_value(extent);
  }
  Attribute params = attrs ? attrs.get("onnx.dim_params") : Attribute();
  for (auto [dim, symbol] : llvm::enumerate(readDimParams(params, shaped.getRank())))
    if (!symbol.empty() && !shape->dim(dim).has_dim_value())
      shape->mutable_dim(dim)->set_dim_param(symbol);
  return success();
}

LogicalResult GraphWriter::writePorts(func::FuncOp function) {
  auto nameOfPort = [&](DictionaryAttr attrs, const std::string &otherwise) {
    auto name = attrs ? attrs.getAs<StringAttr>("onnx.name") : StringAttr();
    return fresh(name ? name.str() : otherwise);
  };
  for (BlockArgument argument : function.getArguments()) {
    unsigned i = argument.getArgNumber();
    DictionaryAttr attrs = function.getArgAttrDict(i);
    names[argument] = nameOfPort(attrs, "input" + std::to_string(i));
    if (failed(describe(*graph.add_input(), names[argument], argument.getType(), attrs,
                        function.getLoc())))
      return failure();
  }
  // A result takes the name of its output, the first one where it is several.
  Operation *terminator = function.getBody().front().getTerminator();
  for (auto [i, value] : llvm::enumerate(terminator->getOperands())) {
    DictionaryAttr attrs = function.getResultAttrDict(i);
    std::string name = nameOfPort(attrs, "output" + std::to_string(i));
    if (failed(describe(*graph.add_output(), name, value.getType(), attrs, function.getLoc())))
      return failure();
    if (value.getDefiningOp() && !ConstantData::get(value))
      names.try_emplace(value, name);
  }
  return success();
}

LogicalResult GraphWriter::write(func::FuncOp function) {
  if (failed(writePorts(function)))
    return failure();
  Block &body = function.getBody().front();
  for (Operation &op : body.without_terminator())
    if (failed(writeOp(&op)))
      return failure();
  // Outputs that are inputs, constants or other outputs too.
  for (auto [i, value] : llvm::enumerate(body.getTerminator()->getOperands())) {
    std::string name = nameOf(value);
    if (name.empty())
      return failure();
    if (name == graph.output(i).name())
      continue;
    NodeProto &node = addNode("Identity", graph.output(i).name() + "_Identity");
    node.add_input(name);
    node.add_output(graph.output(i).name());
  }
  return success();
}
