//===- ChannelsLast.cpp - Conv with its innermost loop over filters -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Image and result are transposed to channels last; weights too, when compiling where they are
// constants. The
// innermost loop then walks weights and result element by element whatever the
// stride and however small the image.
//
//===----------------------------------------------------------------------===//
#include "ChannelsLast.h"
#include "Accumulation.h"
#include "Window.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

/// As many filters as the narrowest vector has floats.
static constexpr int64_t leastFilters = 8;

static bool isDepthwise(ArrayRef<int64_t> weights, int64_t group) {
  return group > 1 && weights[1] == 1 && weights[0] == group;
}

bool lowbit::onnx::fitsChannelsLast(Lowering &l) {
  RankedTensorType type = l.inType(1);
  int64_t group = l.attr("group", 1);
  if (group < 1 || !type.hasStaticShape() || type.getRank() < 3 || type.getNumElements() == 0 ||
      isByteStored(l.element(1)))
    return false;
  ArrayRef<int64_t> shape = type.getShape();
  bool depthwise = isDepthwise(shape, group);
  if (group > 1 && !depthwise && !ConstantData::get(l.op->getOperand(1)))
    return false;
  return shape[0] % group == 0 && (depthwise ? group : shape[0] / group) >= leastFilters &&
         l.dims(0)[1].constant() == shape[1] * group;
}

/// Weights [F, C / groups, kernel…] as [[G,] kernel…, C, F] of a group, or [kernel…, G] where
/// depthwise.
static Value orderedWeights(Lowering &l, int64_t group) {
  SmallVector<int64_t> shape(l.inType(1).getShape());
  bool depthwise = isDepthwise(shape, group);
  std::optional<ConstantData> weights = ConstantData::get(l.op->getOperand(1));
  if (!weights) {
    Value value = l.in(1);
    SmallVector<int64_t> order;
    for (size_t d = 2; d < shape.size(); ++d)
      order.push_back(depthwise ? d - 1 : d);
    if (depthwise) { // [G, 1, kernel…] to [G, kernel…].
      SmallVector<ReassociationIndices> runs = {{0, 1}};
      for (int64_t d = 2; d < (int64_t)shape.size(); ++d)
        runs.push_back({d});
      value = tensor::CollapseShapeOp::create(l.b, value, runs);
    } else {
      order.push_back(1);
    }
    order.push_back(0);
    return l.transpose(value, order);
  }
  SmallVector<int64_t> split = {group, shape[0] / group, shape[1]}, order, ordered;
  split.append(shape.begin() + 2, shape.end());
  if (!depthwise)
    order.push_back(0);
  for (size_t d = 3; d < split.size(); ++d)
    order.push_back(d);
  order.append({2, 1});
  if (depthwise) // Dims 1 and 2 are of size 1.
    order.push_back(0);
  for (int64_t d : order)
    if (d > 2 || (d == 0 ? group > 1 : !depthwise))
      ordered.push_back(split[d]);
  Type element = weights->getType().getElementType();
  std::vector<char> bytes = permuted(weights->bytes(), split, order, bytesPerElement(element));
  auto type = RankedTensorType::get(ordered, toSignless(element));
  return l.constant(cast<TypedAttr>(makeConstant(type, bytes, "channels_last")));
}

LogicalResult lowbit::onnx::convChannelsLast(Lowering &l) {
  SmallVector<int64_t> shape(l.inType(1).getShape());
  int64_t group = l.attr("group", 1), spatial = shape.size() - 2, last = spatial + 1;
  bool depthwise = isDepthwise(shape, group), grouped = group > 1 && !depthwise;
  Type element = l.resultType().getElementType(), sum = accumulator(element);

  Sizes kernel;
  for (int64_t size : ArrayRef(shape).drop_front(2))
    kernel.push_back(l.index(size));
  Window w = readWindow(l, kernel);
  SmallVector<int64_t> toLast = {0}, toFirst = {0, last};
  for (int64_t i = 0; i < spatial; ++i) {
    toLast.push_back(i + 2);
    toFirst.push_back(i + 1);
  }
  toLast.push_back(1);
  Value input = l.transpose(padWindow(l, w, l.in(0), l.scalar(element, 0)), toLast);
  Value weight = orderedWeights(l, group);
  Sizes sizes = {l.dim(input, 0)};
  sizes.append(w.output);
  sizes.push_back(l.index(shape[0]));
  Value init = initialSums(l, sizes, sum, last);
  if (grouped) {
    input = splitDim(l, input, last, group);
    init = splitDim(l, init, last, group);
  }

  // The loops: n, position…, [group,] kernel…, [channel,] filter, which is the group where
  // depthwise.
  unsigned next = 0;
  auto loop = [&] { return l.d(next++); };
  SmallVector<AffineExpr> in = {loop()}, taps, out = in;
  SmallVector<unsigned> reductions;
  for (int64_t i = 0; i < spatial; ++i)
    out.push_back(loop());
  if (grouped) {
    taps.push_back(loop());
    out.push_back(taps[0]);
  }
  for (int64_t i = 0; i < spatial; ++i) {
    reductions.push_back(next);
    taps.push_back(loop());
    in.push_back(out[1 + i] * w.strides[i] + taps.back() * w.dilations[i]);
  }
  if (grouped)
    in.push_back(taps[0]);
  if (!depthwise) {
    reductions.push_back(next);
    taps.push_back(loop());
    in.push_back(taps.back());
  }
  taps.push_back(loop());
  out.push_back(taps.back());
  if (depthwise)
    in.push_back(taps.back());
  SmallVector<IteratorType> iterators(next, IteratorType::parallel);
  for (unsigned reduction : reductions)
    iterators[reduction] = IteratorType::reduction;
  Value result =
      l.generic({input, weight}, init, {l.mapOf(next, in), l.mapOf(next, taps), l.mapOf(next, out)},
                iterators, multiplyAdd);
  if (grouped)
    result = joinGroups(l, result, last);
  return l.replace(l.transpose(narrow(l, result, element), toFirst));
}
