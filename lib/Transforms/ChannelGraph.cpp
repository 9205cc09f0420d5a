//===- ChannelGraph.cpp - which channels a positive factor moves through ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ChannelBuilder.h"
#include "ChannelPatterns.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Support/ConstantData.h"
#include <numeric>

using namespace lowbit;

int32_t ChannelGraph::root(int32_t id) const {
  while (parent[id] != id)
    id = parent[id] = parent[parent[id]];
  return id;
}

std::string ChannelGraph::whyFixed(Value value, int32_t id) const {
  auto describe = [](Operation *op) {
    return "'" + getLayerName(op) + "' (" + op->getName().stripDialect().str() + ")";
  };
  if (Operation *op = fixedBy[root(id)])
    return describe(op) + " ties its channels";
  Operation *op = value.getDefiningOp();
  return op ? "it comes from " + describe(op) : std::string("it is an input of the model");
}

std::vector<int32_t> ChannelGraph::channelsAlong(Value value, int64_t axis) const {
  auto found = patterns.find(value);
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type)
    return {};
  if (axis < 0)
    axis += type.getRank();
  if (axis < 0 || axis >= type.getRank() || type.isDynamicDim(axis))
    return {};
  if (found == patterns.end() || !found->second.varies(axis))
    return std::vector<int32_t>(type.getDimSize(axis),
                                found == patterns.end() ? fixed : found->second.ids[0]);
  const ChannelPattern &pattern = found->second;
  if (int64_t(pattern.ids.size()) != type.getDimSize(axis))
    return {};
  return pattern.ids;
}

ChannelGraph::ChannelGraph(Block &block) { ChannelBuilder(*this, block).run(); }

ChannelPattern ChannelBuilder::fixedPattern(Value value) {
  ChannelPattern pattern;
  if (RankedTensorType type = typeOf(value))
    pattern.shape.assign(type.getRank(), 1);
  pattern.ids = {ChannelGraph::fixed};
  return pattern;
}

ChannelPattern ChannelBuilder::get(Value value) {
  auto found = graph.patterns.find(value);
  return found == graph.patterns.end() ? fixedPattern(value) : found->second;
}

ChannelPattern ChannelBuilder::freshAlong(size_t rank, size_t axis, int64_t count) {
  ChannelPattern pattern;
  pattern.shape.assign(rank, 1);
  pattern.shape[axis] = count;
  for (int64_t i = 0; i < count; ++i)
    pattern.ids.push_back(fresh());
  return pattern;
}

void ChannelBuilder::tie(int32_t a, int32_t b) {
  a = graph.root(a);
  b = graph.root(b);
  if (a == b || (graph.isFixed[a] && graph.isFixed[b]))
    return;
  if (a > b)
    std::swap(a, b);
  // Channels that come to be fixed remember by which op.
  if (graph.isFixed[a] || graph.isFixed[b]) {
    int32_t known = graph.isFixed[a] ? a : b, other = a + b - known;
    graph.isFixed[other] = true;
    graph.fixedBy[other] = graph.fixedBy[known] ? graph.fixedBy[known] : current;
  }
  if (a != ChannelGraph::fixed)
    graph.parent[b] = a;
}

void ChannelBuilder::fix(Value value) {
  auto found = graph.patterns.find(value);
  if (found == graph.patterns.end())
    return;
  for (int32_t id : found->second.ids)
    tie(id, ChannelGraph::fixed);
}

bool ChannelBuilder::isFixed(const ChannelPattern &pattern) const {
  return llvm::all_of(pattern.ids,
                      [&](int32_t id) { return graph.find(id) == ChannelGraph::fixed; });
}

ChannelPattern ChannelBuilder::collapse(const ChannelPattern &pattern,
                                        llvm::function_ref<bool(size_t)> keep) {
  ChannelPattern result;
  for (size_t d = 0; d < pattern.shape.size(); ++d)
    result.shape.push_back(keep(d) ? pattern.shape[d] : 1);
  if (result.shape == pattern.shape)
    return pattern;
  int64_t count =
      std::accumulate(result.shape.begin(), result.shape.end(), int64_t(1), std::multiplies<>());
  result.ids.resize(count);
  std::iota(result.ids.begin(), result.ids.end(), 0);
  std::vector<int32_t> places = broadcast(result, pattern.shape).ids;
  std::fill(result.ids.begin(), result.ids.end(), -1);
  for (auto [id, place] : llvm::zip(pattern.ids, places)) {
    if (result.ids[place] < 0)
      result.ids[place] = id;
    else
      tie(result.ids[place], id);
  }
  return result;
}

std::optional<ChannelPattern> ChannelBuilder::tieBroadcast(const ChannelPattern &a,
                                                           const ChannelPattern &b) {
  std::optional<SmallVector<int64_t, 4>> shape = broadcastShape(a.shape, b.shape);
  if (!shape)
    return std::nullopt;
  ChannelPattern result = broadcast(a, *shape), other = broadcast(b, *shape);
  for (auto [x, y] : llvm::zip(result.ids, other.ids))
    tie(x, y);
  return result;
}

bool ChannelBuilder::isScalable(Value value) {
  std::optional<ConstantData> data = value ? ConstantData::get(value) : std::nullopt;
  if (!data || !data->getType().getElementType().isF32())
    return false;
  int64_t longest = 0;
  for (int64_t dim : data->getType().getShape())
    longest = std::max(longest, dim);
  return value.hasOneUse() || data->getType().getNumElements() == longest;
}

bool ChannelBuilder::visitUnary(Operation *op) {
  ChannelPattern pattern = get(op->getOperand(0));
  set(op->getResult(0), pattern);
  for (Value extra : llvm::drop_begin(op->getOperands())) // Of Dropout.
    fix(extra);
  return true;
}

bool ChannelBuilder::visitSpatial(Operation *op) {
  RankedTensorType in = typeOf(op->getOperand(0)), out = typeOf(op->getResult(0));
  if (!in || !out || in.getRank() != out.getRank() || in.getRank() < 3 ||
      in.getDimSize(1) != out.getDimSize(1))
    return false;
  // A Resize that fills in a value of its own beyond the borders.
  if (onnx::getString(op, "coordinate_transformation_mode", "") == "tf_crop_and_resize" &&
      onnx::getFloat(op, "extrapolation_value", 0.0) != 0.0)
    return false;
  set(op->getResult(0), collapse(get(op->getOperand(0)), [](size_t d) { return d < 2; }));
  return true;
}

bool ChannelBuilder::visitClip(Operation *op) {
  // Clip(0, ∞) is Relu.
  Value low = onnx::getOperand(op, 1);
  std::optional<ConstantData> bound = low ? ConstantData::get(low) : std::nullopt;
  if (onnx::getOperand(op, 2) || !bound || bound->toFloats() != std::vector<float>{0.0f})
    return false;
  return visitUnary(op);
}

bool ChannelBuilder::visitPRelu(Operation *op) {
  // Slopes are factors of what is below zero, whatever its scale.
  return ConstantData::get(op->getOperand(1)) && visitUnary(op);
}

bool ChannelBuilder::addLayer(Operation *op, size_t inAxis, size_t outAxis) {
  std::optional<WeightLayout> layout = getWeightLayout(op);
  RankedTensorType out = typeOf(op->getResult(0));
  Value bias = onnx::getOperand(op, 2);
  if (!layout || !out || !isScalable(op->getOperand(1)) || (bias && !isScalable(bias)))
    return false;
  ChannelPattern input = collapse(get(op->getOperand(0)), [&](size_t d) { return d == inAxis; });
  if (input.varies(inAxis) && input.shape[inAxis] != layout->inputs())
    return false;
  input.shape[inAxis] = input.ids.size();
  ScaledWeight weight;
  weight.op = op;
  weight.layout = *layout;
  weight.in = input.ids;
  weight.in.resize(layout->inputs(), input.ids.front());
  ChannelPattern output = freshAlong(out.getRank(), outAxis, layout->outputs());
  weight.out = output.ids;
  if (bias) {
    ChannelPattern vector = output;
    if (out.getRank() > 2) // Of a Conv it is [F], not [1, F, 1…].
      vector.shape = {layout->outputs()};
    addVector(op, 2, ScaledVector::Role::Bias, vector);
  }
  graph.weights.push_back(std::move(weight));
  set(op->getResult(0), std::move(output));
  return true;
}

bool ChannelBuilder::visitConv(Operation *op) { return addLayer(op, 1, 1); }

bool ChannelBuilder::visitMatMul(Operation *op) {
  Value left = op->getOperand(0), right = op->getOperand(1);
  RankedTensorType l = typeOf(left), r = typeOf(right), out = typeOf(op->getResult(0));
  if (!l || !r || !out || l.getRank() < 2 || r.getRank() < 2)
    return false;
  if (ConstantData::get(right))
    return addLayer(op, l.getRank() - 1, out.getRank() - 1);
  // Of two values, as probabilities and values of attention: what is summed over is the same for
  // all channels of the result. The other operand's channels have to be fixed already.
  ChannelPattern a = get(left), b = get(right);
  size_t rank = out.getRank();
  if (isFixed(a)) {
    size_t summed = b.shape.size() - 2;
    b = collapse(b, [&](size_t d) { return d != summed; });
    set(op->getResult(0),
        broadcast(b, broadcastShape(b.shape, SmallVector<int64_t>(rank, 1)).value()));
    return true;
  }
  if (isFixed(b)) {
    size_t summed = a.shape.size() - 1;
    a = collapse(a, [&](size_t d) { return d != summed; });
    set(op->getResult(0),
        broadcast(a, broadcastShape(a.shape, SmallVector<int64_t>(rank, 1)).value()));
    return true;
  }
  return false;
}

bool ChannelBuilder::visitGemm(Operation *op) { return addLayer(op, 1, 1); }

bool ChannelBuilder::visitGather(Operation *op) {
  RankedTensorType type = typeOf(op->getOperand(0)), out = typeOf(op->getResult(0));
  if (!type || !out || onnx::getInt(op, "axis", 0) != 0 || type.getRank() != 2 ||
      !isScalable(op->getOperand(0)))
    return false;
  ScaledWeight weight;
  weight.op = op;
  weight.operand = 0;
  weight.layout.a = type.getDimSize(0);
  weight.layout.b = type.getDimSize(1);
  ChannelPattern output = freshAlong(out.getRank(), out.getRank() - 1, weight.layout.b);
  weight.out = output.ids;
  graph.weights.push_back(std::move(weight));
  set(op->getResult(0), std::move(output));
  return true;
}

bool ChannelBuilder::visitSum(Operation *op) {
  // Add and Sub of values or constants; Sum, Max and Min of values: all of them scale together.
  bool takesConstants = onnx::getOperator(op) == "Add" || onnx::getOperator(op) == "Sub";
  std::optional<ChannelPattern> result;
  SmallVector<unsigned> constants;
  for (auto [index, operand] : llvm::enumerate(op->getOperands())) {
    if (takesConstants && ConstantData::get(operand)) {
      if (!isScalable(operand))
        return false;
      constants.push_back(index);
      continue;
    }
    if (result)
      result = tieBroadcast(*result, get(operand));
    else
      result = get(operand);
    if (!result)
      return false;
  }
  RankedTensorType out = typeOf(op->getResult(0));
  if (!result || !out)
    return false;
  // A constant that is broadcast to more dims, or whose dims broadcast the values' channels.
  std::optional<SmallVector<int64_t, 4>> shape =
      broadcastShape(result->shape, SmallVector<int64_t>(out.getRank(), 1));
  ChannelPattern pattern = broadcast(*result, *shape);
  for (unsigned index : constants)
    addVector(op, index, ScaledVector::Role::Bias, pattern);
  set(op->getResult(0), std::move(pattern));
  return true;
}

bool ChannelBuilder::visitMul(Operation *op) {
  bool isDiv = onnx::getOperator(op) == "Div";
  RankedTensorType out = typeOf(op->getResult(0));
  if (!out)
    return false;
  int constantIndex = -1;
  for (unsigned index : {1u, 0u})
    if (ConstantData::get(op->getOperand(index)))
      constantIndex = index;
  if (isDiv && constantIndex != 1) {
    // x / y: the channels of x, where y has none to give.
    ChannelPattern pattern = get(op->getOperand(0));
    fix(op->getOperand(1));
    set(op->getResult(0),
        broadcast(pattern, *broadcastShape(pattern.shape, SmallVector<int64_t>(out.getRank(), 1))));
    return constantIndex != 0;
  }
  if (constantIndex < 0) {
    // Decided in settle where neither is fixed yet; until then the result has channels of its own.
    ChannelPattern left = get(op->getOperand(0)), right = get(op->getOperand(1));
    std::optional<SmallVector<int64_t, 4>> shape = broadcastShape(left.shape, right.shape);
    if (!shape)
      return false;
    if (isFixed(left) || isFixed(right)) {
      set(op->getResult(0), broadcast(isFixed(left) ? right : left, *shape));
      return true;
    }
    ChannelPattern pattern;
    pattern.shape = *shape;
    int64_t count = std::accumulate(shape->begin(), shape->end(), int64_t(1), std::multiplies<>());
    for (int64_t i = 0; i < count; ++i)
      pattern.ids.push_back(fresh());
    set(op->getResult(0), std::move(pattern));
    products.push_back(op);
    return true;
  }
  Value constant = op->getOperand(constantIndex), value = op->getOperand(1 - constantIndex);
  ChannelPattern in = get(value);
  RankedTensorType type = typeOf(constant);
  if (!isScalable(constant) || type.getNumElements() == 1) {
    std::optional<SmallVector<int64_t, 4>> shape =
        broadcastShape(in.shape, SmallVector<int64_t>(out.getRank(), 1));
    set(op->getResult(0), broadcast(in, *shape));
    return true;
  }
  // One factor per channel, as the gain of a norm: what goes in and what comes out are free of each
  // other.
  std::optional<SmallVector<int64_t, 4>> shape = broadcastShape(in.shape, type.getShape());
  if (!shape)
    return false;
  shape = broadcastShape(*shape, SmallVector<int64_t>(out.getRank(), 1));
  ChannelPattern result;
  result.shape = *shape;
  int64_t count = std::accumulate(shape->begin(), shape->end(), int64_t(1), std::multiplies<>());
  for (int64_t i = 0; i < count; ++i)
    result.ids.push_back(fresh());
  addVector(op, constantIndex, isDiv ? ScaledVector::Role::Divisor : ScaledVector::Role::Gain,
            result, in);
  set(op->getResult(0), std::move(result));
  return true;
}

bool ChannelBuilder::settle(bool force) {
  bool progress = false;
  for (Operation *&op : products) {
    if (!op)
      continue;
    current = op;
    ChannelPattern a = get(op->getOperand(0)), b = get(op->getOperand(1));
    if (force && !isFixed(a) && !isFixed(b))
      fix(op->getOperand(0));
    if (isFixed(a))
      tieBroadcast(b, get(op->getResult(0)));
    else if (isFixed(b))
      tieBroadcast(a, get(op->getResult(0)));
    else
      continue;
    op = nullptr;
    progress = true;
    if (force)
      break;
  }
  return progress;
}

bool ChannelBuilder::visitNorm(Operation *op) {
  // The result is gain · normalized + bias. Normalizing undoes a factor of all channels, not one
  // per channel: what goes in is fixed.
  fix(op->getOperand(0));
  RankedTensorType out = typeOf(op->getResult(0));
  Value gain = onnx::getOperand(op, 1), bias = onnx::getOperand(op, 2);
  bool alongChannels =
      onnx::getOperator(op) != "LayerNormalization" && onnx::getOperator(op) != "RMSNormalization";
  if (!out || !gain || !isScalable(gain) || (bias && !isScalable(bias)))
    return false;
  RankedTensorType type = typeOf(gain);
  if (alongChannels) {
    if (onnx::getOperator(op) == "BatchNormalization")
      for (Value extra : llvm::drop_begin(op->getResults()))
        if (!extra.use_empty())
          return false;
    if (type.getRank() != 1 || out.getRank() < 2 || out.getDimSize(1) != type.getDimSize(0))
      return false;
    ChannelPattern output = freshAlong(out.getRank(), 1, type.getDimSize(0)),
                   vector{{type.getDimSize(0)}, output.ids};
    addVector(op, 1, ScaledVector::Role::Gain, vector);
    if (bias)
      addVector(op, 2, ScaledVector::Role::Bias, vector);
    set(op->getResult(0), std::move(output));
    return true;
  }
  SmallVector<int64_t, 4> shape(out.getRank() - type.getRank(), 1);
  llvm::append_range(shape, type.getShape());
  ChannelPattern output;
  output.shape = shape;
  for (int64_t i = 0; i < type.getNumElements(); ++i)
    output.ids.push_back(fresh());
  addVector(op, 1, ScaledVector::Role::Gain, output);
  if (bias)
    addVector(op, 2, ScaledVector::Role::Bias, output);
  set(op->getResult(0), std::move(output));
  return true;
}

void ChannelBuilder::visitUnknown(Operation *op) {
  op->walk([&](Operation *inner) {
    for (Value operand : inner->getOperands())
      fix(operand);
  });
  for (Value result : op->getResults())
    graph.patterns.erase(result);
}

const llvm::StringMap<ChannelBuilder::Handler> &ChannelBuilder::handlers() {
  using B = ChannelBuilder;
  static const llvm::StringMap<Handler> map = {
      {"Relu", &B::visitUnary},
      {"LeakyRelu", &B::visitUnary},
      {"Identity", &B::visitUnary},
      {"Dropout", &B::visitUnary},
      {"Abs", &B::visitUnary},
      {"Neg", &B::visitUnary},
      {"PRelu", &B::visitPRelu},
      {"Clip", &B::visitClip},
      {"MaxPool", &B::visitSpatial},
      {"AveragePool", &B::visitSpatial},
      {"GlobalAveragePool", &B::visitSpatial},
      {"GlobalMaxPool", &B::visitSpatial},
      {"Resize", &B::visitSpatial},
      {"Conv", &B::visitConv},
      {"ConvTranspose", &B::visitConv},
      {"MatMul", &B::visitMatMul},
      {"Gemm", &B::visitGemm},
      {"Gather", &B::visitGather},
      {"Add", &B::visitSum},
      {"Sub", &B::visitSum},
      {"Sum", &B::visitSum},
      {"Max", &B::visitSum},
      {"Min", &B::visitSum},
      {"Mul", &B::visitMul},
      {"Div", &B::visitMul},
      {"LayerNormalization", &B::visitNorm},
      {"RMSNormalization", &B::visitNorm},
      {"InstanceNormalization", &B::visitNorm},
      {"GroupNormalization", &B::visitNorm},
      {"BatchNormalization", &B::visitNorm},
      {"ReduceMean", &B::visitReduce},
      {"ReduceSum", &B::visitReduce},
      {"ReduceMax", &B::visitReduce},
      {"ReduceMin", &B::visitReduce},
      {"Reshape", &B::visitReshape},
      {"Flatten", &B::visitReshape},
      {"Squeeze", &B::visitReshape},
      {"Unsqueeze", &B::visitReshape},
      {"Transpose", &B::visitTranspose},
      {"Expand", &B::visitExpand},
      {"Tile", &B::visitExpand},
      {"Concat", &B::visitConcat},
      {"Split", &B::visitSplit},
      {"Slice", &B::visitSlice},
      {"Pad", &B::visitPad},
  };
  return map;
}

void ChannelBuilder::run() {
  for (Operation &op : block) {
    current = &op;
    if (auto observe = dyn_cast<ObserveOp>(op))
      continue;
    if (op.hasTrait<OpTrait::ConstantLike>() ||
        ConstantData::get(op.getNumResults() == 1 ? op.getResult(0) : Value()))
      continue;
    auto handler = handlers().find(onnx::getOperator(&op));
    RankedTensorType type = op.getNumResults() ? typeOf(op.getResult(0)) : RankedTensorType();
    bool isFloat = type && type.getElementType().isF32();
    if (handler == handlers().end() || !isFloat || op.getNumRegions() ||
        !(this->*handler->second)(&op))
      visitUnknown(&op);
  }
  while (settle(/*force=*/false) || settle(/*force=*/true)) {
  }
  block.walk([&](ObserveOp op) {
    if (op->getBlock() == &block)
      graph.observers.push_back({op, get(op.getInput()).ids});
  });
}
