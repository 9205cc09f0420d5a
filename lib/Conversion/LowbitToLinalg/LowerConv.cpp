//===- LowerConv.cpp - conv ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Epilogue.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;

/// [N, C, spatial…] as [N, spatial…, C], padded with what stands for the real value 0.
static Value channelsLastInput(ConvOp op, Lowering &l, Value padding) {
  ArrayRef<int64_t> pads = op.getPads();
  int64_t spatial = pads.size() / 2;
  SmallVector<int64_t> toLast{0};
  for (int64_t d = 0; d < spatial; ++d)
    toLast.push_back(d + 2);
  toLast.push_back(1);
  Value input = l.transpose(l.stored(op.getInput()), toLast);
  if (llvm::all_of(pads, [](int64_t pad) { return pad == 0; }))
    return input;
  auto type = cast<RankedTensorType>(input.getType());
  SmallVector<OpFoldResult> low(type.getRank(), l.b.getIndexAttr(0)), high = low;
  SmallVector<int64_t> shape(type.getShape());
  for (int64_t d = 0; d < spatial; ++d) {
    low[1 + d] = l.b.getIndexAttr(pads[d]);
    high[1 + d] = l.b.getIndexAttr(pads[spatial + d]);
    if (!type.isDynamicDim(1 + d))
      shape[1 + d] += pads[d] + pads[spatial + d];
  }
  return tensor::PadOp::create(l.b, l.loc, type.clone(shape), input, low, high, padding);
}

/// Size `d` of the result from that of the padded input.
static OpFoldResult resultExtent(ConvOp op, Lowering &l, int64_t d, OpFoldResult padded) {
  auto output = cast<RankedTensorType>(op.getOutput().getType());
  if (!output.isDynamicDim(d + 2))
    return l.b.getIndexAttr(output.getDimSize(d + 2));
  int64_t kernel = cast<RankedTensorType>(op.getWeight().getType()).getDimSize(d + 2);
  int64_t reach = (kernel - 1) * op.getDilations()[d] + 1;
  AffineExpr extent = l.b.getAffineDimExpr(0);
  OpFoldResult size = affine::makeComposedFoldedAffineApply(
      l.b, l.loc, (extent - reach).floorDiv(op.getStrides()[d]) + 1, {padded});
  auto dynamic = dyn_cast<Value>(size);
  if (!dynamic)
    return size;
  Value none = arith::ConstantIndexOp::create(l.b, l.loc, 0);
  Value fits = arith::CmpIOp::create(l.b, l.loc, arith::CmpIPredicate::sgt, dynamic, none);
  rt::AssertOp::create(
      l.b, l.loc, fits,
      ("layer '" + op.getLayer() + "': the input is smaller than the kernel").str());
  return Value(
      arith::MaxSIOp::create(l.b, l.loc, dynamic, none)); // After a failure: nothing to do.
}

namespace {
/// The kinds of convolution differ in which of the loops over group, channel of a group and filter
/// of a group exist.
struct ConvShape {
  int64_t groups, channels, filters; ///< Channels and filters of one group.
  SmallVector<int64_t> kernel;
  bool hasGroups() const { return groups > 1; }
  bool isDepthwise() const { return groups > 1 && channels == 1 && filters == 1; }
};
} // namespace

/// Weights [F, C / groups, kernel…] as [kernel…, C, F], [kernel…, G] where depthwise, else [G,
/// kernel…, C, F]; of a float convolution dequantized.
static Value orderedWeights(ConvOp op, Lowering &l, const ConvShape &conv, bool isInteger) {
  MLIRContext *context = op.getContext();
  int64_t spatial = conv.kernel.size();
  // As [G, F, C, kernel…], where one filter of all groups and one channel have no dimension.
  SmallVector<int64_t> shape, order, taps;
  int64_t group = -1, filter = -1, channel = -1;
  auto dimension = [&](int64_t extent) {
    shape.push_back(extent);
    return int64_t(shape.size()) - 1;
  };
  if (conv.hasGroups())
    group = dimension(conv.groups);
  if (!conv.isDepthwise()) {
    filter = dimension(conv.filters);
    channel = dimension(conv.channels);
  }
  for (int64_t extent : conv.kernel)
    taps.push_back(dimension(extent));
  if (conv.hasGroups() && !conv.isDepthwise())
    order.push_back(group);
  order.append(taps);
  if (conv.isDepthwise())
    order.push_back(group);
  else
    order.append({channel, filter});
  Value weight = l.storedPermuted(op.getWeight(), shape, order);
  if (isInteger)
    return weight;

  // The loops of the ordered weights, to find the scale of an element.
  SmallVector<unsigned> place(order.size());
  for (auto [position, dim] : llvm::enumerate(order))
    place[dim] = position;
  auto at = [&](int64_t dim) {
    return dim < 0 ? getAffineConstantExpr(0, context) : getAffineDimExpr(place[dim], context);
  };
  AffineExpr row = at(group) * conv.filters + at(filter), element = at(channel);
  for (int64_t d = 0; d < spatial; ++d)
    element = element * conv.kernel[d] + at(taps[d]);
  SmallVector<AffineExpr> exprs;
  int64_t scaleRank = cast<RankedTensorType>(op.getWeightScale().getType()).getRank();
  if (scaleRank > 0)
    exprs.push_back(row);
  if (scaleRank > 1)
    exprs.push_back(element.floorDiv(op.getGroup()));
  return dequantizeStored(
      l, weight, cast<RankedTensorType>(op.getWeight().getType()).getElementType(),
      l.stored(op.getWeightScale()), op.getWeightZero() ? l.stored(op.getWeightZero()) : Value(),
      AffineMap::get(order.size(), 0, exprs, context));
}

/// Channels last: loops are (batch, position…, [group,] kernel…, [channel,] filter), so the
/// innermost one is contiguous in weights and result (where depthwise in the input too) whatever
/// the stride and however small the image, which a compiler can vectorize. The transposes cancel
/// with those of neighbours that have channels last too.
LogicalResult lowbit::lowerConv(ConvOp op, OpBuilder &b, Value &result) {
  Lowering l{b, op.getLoc()};
  Location loc = op.getLoc();
  MLIRContext *context = op.getContext();
  Type inputElement = cast<RankedTensorType>(op.getInput().getType()).getElementType();
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  if (!weightType.hasStaticShape())
    return op.emitOpError("expects weights of static shape");
  bool isInteger = isa<IntegerType>(inputElement);
  int64_t groups = op.getGroups(), filters = weightType.getDimSize(0),
          spatial = weightType.getRank() - 2;
  if (filters % groups != 0)
    return op.emitOpError("expects the number of filters (")
           << filters << ") to be a multiple of the groups (" << groups << ")";
  ConvShape conv{groups, weightType.getDimSize(1), filters / groups,
                 llvm::to_vector(weightType.getShape().drop_front(2))};
  bool grouped = conv.hasGroups() && !conv.isDepthwise();

  // Of 16-bit inputs a 32-bit accumulator would hold few products.
  Type accumulator = !isInteger                                   ? Type(b.getF32Type())
                     : inputElement.getIntOrFloatBitWidth() > 8 ? Type(b.getI64Type())
                                                                : Type(b.getI32Type());
  Value zero = isInteger ? l.scalar(op.getInputZero()) : Value();
  Value padding = isInteger ? arith::TruncIOp::create(b, loc, storageType(inputElement), zero)
                            : l.constantF32(0);
  Value input = channelsLastInput(op, l, padding);
  Value weight = orderedWeights(op, l, conv, isInteger);
  SmallVector<OpFoldResult> inputShape = l.shapeOf(input), shape{inputShape[0]};
  for (int64_t d = 0; d < spatial; ++d)
    shape.push_back(resultExtent(op, l, d, inputShape[1 + d]));
  SmallVector<ReassociationIndices> split;
  if (grouped) {
    // [N, …, G·C] as [N, …, G, C], and the result likewise.
    for (int64_t d = 0; d <= spatial; ++d)
      split.push_back({d});
    split.push_back({spatial + 1, spatial + 2});
    auto type = cast<RankedTensorType>(input.getType());
    SmallVector<int64_t> known(type.getShape()), splitShape(type.getShape().drop_back());
    known.back() = groups * conv.channels;
    if (type.isDynamicDim(spatial + 1))
      input = tensor::CastOp::create(b, loc, type.clone(known), input);
    splitShape.append({groups, conv.channels});
    SmallVector<OpFoldResult> sizes(llvm::drop_end(inputShape));
    sizes.append({b.getIndexAttr(groups), b.getIndexAttr(conv.channels)});
    input = tensor::ExpandShapeOp::create(b, loc, type.clone(splitShape), input, split, sizes);
    shape.push_back(b.getIndexAttr(groups));
  }
  shape.push_back(b.getIndexAttr(grouped ? conv.filters : filters));

  // The loops, outermost first.
  unsigned next = 0;
  auto loop = [&] { return getAffineDimExpr(next++, context); };
  SmallVector<AffineExpr> in, w, out;
  SmallVector<unsigned> reductions;
  in.push_back(loop());
  out.push_back(in.back());
  for (int64_t d = 0; d < spatial; ++d)
    out.push_back(loop());
  AffineExpr group = grouped ? loop() : AffineExpr();
  if (grouped) {
    w.push_back(group);
    out.push_back(group);
  }
  for (int64_t d = 0; d < spatial; ++d) {
    reductions.push_back(next);
    w.push_back(loop());
    in.push_back(out[1 + d] * op.getStrides()[d] + w.back() * op.getDilations()[d]);
  }
  if (grouped)
    in.push_back(group);
  if (!conv.isDepthwise()) {
    reductions.push_back(next);
    w.push_back(loop());
    in.push_back(w.back());
  }
  w.push_back(loop());
  out.push_back(w.back());
  if (conv.isDepthwise())
    in.push_back(w.back());

  Value acc = l.contract(
      {input, weight}, {AffineMap::get(next, 0, in, context), AffineMap::get(next, 0, w, context)},
      AffineMap::get(next, 0, out, context), reductions, shape,
      accumulator, [&](OpBuilder &b, ValueRange args) -> Value {
        if (!isInteger) {
          Value product = arith::MulFOp::create(b, loc, args[0], args[1]);
          return arith::AddFOp::create(b, loc, args[2], product);
        }
        Value x = Lowering::widen(b, loc, args[0], inputElement, b.getI32Type());
        x = arith::SubIOp::create(b, loc, x, zero);
        if (!accumulator.isInteger(32))
          x = arith::ExtSIOp::create(b, loc, accumulator, x);
        Value tap = Lowering::widen(b, loc, args[1], weightType.getElementType(), accumulator);
        return arith::AddIOp::create(b, loc, args[2], arith::MulIOp::create(b, loc, x, tap));
      });
  if (grouped) {
    auto type = cast<RankedTensorType>(acc.getType());
    SmallVector<int64_t> merged(type.getShape().drop_back(2));
    merged.push_back(filters);
    acc = tensor::CollapseShapeOp::create(b, loc, type.clone(merged), acc, split);
  }
  SmallVector<int64_t> toFirst{0, spatial + 1};
  for (int64_t d = 0; d < spatial; ++d)
    toFirst.push_back(d + 1);
  Value real = op.sumsInFloat() ? lowerFloatEpilogue(op, l, acc, spatial + 1)
                                : lowerEpilogue(op, l, acc, spatial + 1);
  result = l.transpose(real, toFirst);
  return success();
}
