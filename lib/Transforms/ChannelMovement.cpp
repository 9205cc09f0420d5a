//===- ChannelMovement.cpp - channels through reductions and data movement ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ChannelBuilder.h"
#include "ChannelPatterns.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Support/ConstantData.h"
#include <algorithm>
#include <numeric>

using namespace lowbit;

bool ChannelBuilder::visitReduce(Operation *op) {
  RankedTensorType in = typeOf(op->getOperand(0)), out = typeOf(op->getResult(0));
  if (!in || !out)
    return false;
  SmallVector<bool> isReduced(in.getRank(), true);
  if (Value axes = onnx::getOperand(op, 1)) {
    std::optional<ConstantData> data = ConstantData::get(axes);
    if (!data)
      return false;
    std::fill(isReduced.begin(), isReduced.end(), data->toInts().empty());
    for (int64_t axis : data->toInts())
      isReduced[axis < 0 ? axis + in.getRank() : axis] = true;
  }
  if (onnx::getInt(op, "noop_with_empty_axes", 0))
    return false;
  ChannelPattern pattern =
      collapse(get(op->getOperand(0)), [&](size_t d) { return !isReduced[d]; });
  if (!onnx::getInt(op, "keepdims", 1)) {
    SmallVector<int64_t, 4> shape;
    for (auto [dim, reduced] : llvm::zip(pattern.shape, isReduced))
      if (!reduced)
        shape.push_back(dim);
    pattern.shape = shape;
  }
  set(op->getResult(0), std::move(pattern));
  return true;
}

bool ChannelBuilder::visitReshape(Operation *op) {
  // Also Flatten, Squeeze and Unsqueeze: the elements keep their order.
  RankedTensorType in = typeOf(op->getOperand(0)), out = typeOf(op->getResult(0));
  if (!in || !out)
    return false;
  ReshapeGroups groups = reshapeGroups(in.getShape(), out.getShape());
  SmallVector<bool> keeps(in.getRank(), true);
  for (const ReshapeGroups::Group &group : groups.groups)
    for (size_t d = group.fromBegin; d < group.fromEnd && !group.exact; ++d)
      keeps[d] = false;
  ChannelPattern pattern = collapse(get(op->getOperand(0)), [&](size_t d) { return keeps[d]; });
  set(op->getResult(0), reshaped(pattern, in.getShape(), out.getShape(), groups));
  return true;
}

bool ChannelBuilder::visitTranspose(Operation *op) {
  RankedTensorType in = typeOf(op->getOperand(0));
  if (!in)
    return false;
  SmallVector<int64_t> permutation = onnx::getInts(op, "perm");
  if (permutation.empty())
    for (int64_t d = in.getRank(); d-- > 0;)
      permutation.push_back(d);
  set(op->getResult(0), transposed(get(op->getOperand(0)), permutation));
  return true;
}

bool ChannelBuilder::visitExpand(Operation *op) {
  RankedTensorType in = typeOf(op->getOperand(0)), out = typeOf(op->getResult(0));
  if (!in || !out || in.getRank() > out.getRank())
    return false;
  ChannelPattern pattern = get(op->getOperand(0));
  if (onnx::getOperator(op) == "Tile")
    for (int64_t d = 0; d < in.getRank(); ++d)
      if (pattern.varies(d) && in.getDimSize(d) != out.getDimSize(d))
        return false;
  set(op->getResult(0),
      broadcast(pattern, *broadcastShape(pattern.shape, SmallVector<int64_t>(out.getRank(), 1))));
  return true;
}

bool ChannelBuilder::visitConcat(Operation *op) {
  RankedTensorType out = typeOf(op->getResult(0));
  if (!out)
    return false;
  int64_t axis = onnx::getInt(op, "axis", 0);
  if (axis < 0)
    axis += out.getRank();
  bool varies = false, isStatic = true;
  SmallVector<ChannelPattern> parts;
  SmallVector<int64_t, 4> shape(out.getRank(), 1);
  for (Value operand : op->getOperands()) {
    RankedTensorType type = typeOf(operand);
    if (!type || type.getRank() != out.getRank())
      return false;
    isStatic &= !type.isDynamicDim(axis);
    parts.push_back(get(operand));
    varies |= parts.back().varies(axis) ||
              graph.find(parts.back().ids[0]) != graph.find(parts.front().ids[0]);
    for (int64_t d = 0; d < out.getRank(); ++d)
      if (d != axis && parts.back().varies(d))
        shape[d] = parts.back().shape[d];
  }
  if (!isStatic || !varies ||
      !llvm::all_of(parts, [&](const ChannelPattern &part) { return part.varies(axis); })) {
    bool keepAxis = isStatic && llvm::any_of(parts, [&](const ChannelPattern &part) {
                      return part.varies(axis);
                    });
    if (!keepAxis) {
      std::optional<ChannelPattern> all;
      for (ChannelPattern &part : parts) {
        part = collapse(part, [&](size_t d) { return int64_t(d) != axis; });
        all = all ? tieBroadcast(*all, part) : part;
        if (!all)
          return false;
      }
      set(op->getResult(0), *all);
      return true;
    }
  }
  int64_t outer = 1, inner = 1;
  for (int64_t d = 0; d < out.getRank(); ++d)
    (d < axis ? outer : inner) *= d == axis ? 1 : shape[d];
  ChannelPattern result;
  result.shape = shape;
  result.shape[axis] = out.getDimSize(axis);
  SmallVector<ChannelPattern> full;
  for (auto [operand, part] : llvm::zip(op->getOperands(), parts)) {
    SmallVector<int64_t, 4> own(shape);
    own[axis] = typeOf(operand).getDimSize(axis);
    full.push_back(broadcast(part, own));
  }
  for (int64_t o = 0; o < outer; ++o)
    for (const ChannelPattern &part : full) {
      int64_t run = part.shape[axis] * inner;
      result.ids.insert(result.ids.end(), part.ids.begin() + o * run,
                        part.ids.begin() + (o + 1) * run);
    }
  set(op->getResult(0), std::move(result));
  return true;
}

bool ChannelBuilder::visitSplit(Operation *op) {
  RankedTensorType in = typeOf(op->getOperand(0));
  if (!in)
    return false;
  int64_t axis = onnx::getInt(op, "axis", 0), begin = 0;
  if (axis < 0)
    axis += in.getRank();
  ChannelPattern pattern = get(op->getOperand(0));
  for (Value part : op->getResults()) {
    if (!pattern.varies(axis)) {
      set(part, pattern);
      continue;
    }
    RankedTensorType type = typeOf(part);
    if (!type || type.isDynamicDim(axis) || begin + type.getDimSize(axis) > pattern.shape[axis])
      return false;
    SmallVector<int64_t> positions(type.getDimSize(axis));
    std::iota(positions.begin(), positions.end(), begin);
    begin += type.getDimSize(axis);
    set(part, selected(pattern, axis, positions, [&] { return fresh(); }));
  }
  return true;
}

bool ChannelBuilder::visitSlice(Operation *op) {
  RankedTensorType in = typeOf(op->getOperand(0));
  if (!in)
    return false;
  ChannelPattern pattern = get(op->getOperand(0));
  std::vector<int64_t> parts[4]; // starts, ends, axes, steps
  bool isKnown[4] = {};
  for (unsigned i = 0; i < 4; ++i) {
    Value operand = onnx::getOperand(op, i + 1);
    std::optional<ConstantData> data = operand ? ConstantData::get(operand) : std::nullopt;
    isKnown[i] = data || (!operand && i >= 2);
    if (data)
      parts[i] = data->toInts();
  }
  if (!isKnown[2])
    return isFixed(pattern) && visitUnary(op);
  if (parts[2].empty()) {
    parts[2].resize(in.getRank());
    std::iota(parts[2].begin(), parts[2].end(), 0);
  }
  for (auto [i, given] : llvm::enumerate(parts[2])) {
    int64_t axis = given < 0 ? given + in.getRank() : given;
    if (!pattern.varies(axis))
      continue;
    if (!isKnown[0] || !isKnown[1] || !isKnown[3] || i >= parts[0].size() || i >= parts[1].size())
      return false;
    int64_t size = pattern.shape[axis], step = i < parts[3].size() ? parts[3][i] : 1;
    int64_t start = parts[0][i] < 0 ? parts[0][i] + size : parts[0][i],
            end = parts[1][i] < 0 ? parts[1][i] + size : parts[1][i];
    if (step < 1)
      return false;
    start = std::clamp<int64_t>(start, 0, size);
    end = std::clamp<int64_t>(end, 0, size);
    SmallVector<int64_t> positions;
    for (int64_t position = start; position < end; position += step)
      positions.push_back(position);
    if (positions.size() < 2)
      return false;
    pattern = selected(pattern, axis, positions, [&] { return fresh(); });
  }
  set(op->getResult(0), std::move(pattern));
  return true;
}

bool ChannelBuilder::visitPad(Operation *op) {
  RankedTensorType in = typeOf(op->getOperand(0));
  std::optional<ConstantData> data = ConstantData::get(op->getOperand(1));
  Value fill = onnx::getOperand(op, 2);
  if (!in || !data)
    return false;
  if (onnx::getString(op, "mode", "constant") == "constant" && fill) {
    std::optional<ConstantData> value = ConstantData::get(fill);
    if (!value || value->toFloats() != std::vector<float>{0.0f})
      return false;
  }
  ChannelPattern pattern = get(op->getOperand(0));
  std::vector<int64_t> pads = data->toInts(), axes(in.getRank());
  std::iota(axes.begin(), axes.end(), 0);
  if (Value given = onnx::getOperand(op, 3)) {
    std::optional<ConstantData> value = ConstantData::get(given);
    if (!value)
      return false;
    axes = value->toInts();
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    int64_t axis = axes[i] < 0 ? axes[i] + in.getRank() : axes[i], before = pads[i],
            after = pads[axes.size() + i];
    if (!pattern.varies(axis) || (before == 0 && after == 0))
      continue;
    if (onnx::getString(op, "mode", "constant") != "constant" || before < 0 || after < 0)
      return false;
    // Zeros are zeros at any scale: channels of their own.
    SmallVector<int64_t> positions(before, -1);
    for (int64_t position = 0; position < pattern.shape[axis]; ++position)
      positions.push_back(position);
    positions.append(after, -1);
    pattern = selected(pattern, axis, positions, [&] { return fresh(); });
  }
  set(op->getResult(0), std::move(pattern));
  return true;
}
