//===- LowerConv.cpp - conv ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Epilogue.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;

/// The input with its spatial padding, which stands for the real value 0.
static Value padInput(ConvOp op, Lowering &l, Value input, Value padding) {
  ArrayRef<int64_t> pads = op.getPads();
  if (llvm::all_of(pads, [](int64_t pad) { return pad == 0; }))
    return input;
  size_t spatial = pads.size() / 2;
  auto type = cast<RankedTensorType>(input.getType());
  SmallVector<OpFoldResult> low(2, l.b.getIndexAttr(0)), high(2, l.b.getIndexAttr(0));
  SmallVector<int64_t> shape(type.getShape());
  for (size_t d = 0; d < spatial; ++d) {
    low.push_back(l.b.getIndexAttr(pads[d]));
    high.push_back(l.b.getIndexAttr(pads[spatial + d]));
    if (!type.isDynamicDim(d + 2))
      shape[d + 2] += pads[d] + pads[spatial + d];
  }
  return tensor::PadOp::create(l.b, l.loc, type.clone(shape), input, low, high, padding);
}

/// Weights [F, C / groups, spatial…] as f32.
static Value realWeights(ConvOp op, Lowering &l) {
  auto type = cast<RankedTensorType>(op.getWeight().getType());
  MLIRContext *context = op.getContext();
  Value scale = l.stored(op.getWeightScale()),
        zero = op.getWeightZero() ? l.stored(op.getWeightZero()) : Value();
  int64_t scaleRank = cast<RankedTensorType>(op.getWeightScale().getType()).getRank();
  AffineExpr f = getAffineDimExpr(0, context), k = getAffineDimExpr(1, context);
  if (op.getGroup() == 0) {
    AffineMap map = scaleRank == 0 ? AffineMap::get(type.getRank(), 0, context)
                                   : AffineMap::get(type.getRank(), 0, f);
    return dequantizeStored(l, l.stored(op.getWeight()), type.getElementType(), scale, zero, map);
  }
  // Groups run over the flattened elements of a filter.
  int64_t filters = type.getDimSize(0);
  Value matrix = l.storedAs(op.getWeight(), {filters, type.getNumElements() / filters});
  Value real = dequantizeStored(l, matrix, type.getElementType(), scale, zero,
                                AffineMap::get(2, 0, {f, k.floorDiv(op.getGroup())}, context));
  return l.storedAs(real, type.getShape());
}

/// Loops are (batch, filter…, channel, kernel…, position…): the innermost one runs along a row of the result and of
/// the input while the weight stays, which a compiler can vectorize where the stride is 1.
LogicalResult lowbit::lowerConv(ConvOp op, OpBuilder &b, Value &result) {
  Lowering l{b, op.getLoc()};
  Location loc = op.getLoc();
  MLIRContext *context = op.getContext();
  auto inputType = cast<RankedTensorType>(op.getInput().getType());
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  auto outputType = cast<RankedTensorType>(op.getOutput().getType());
  Type inputElement = inputType.getElementType(), weightElement = weightType.getElementType();
  if (!weightType.hasStaticShape())
    return op.emitOpError("expects weights of static shape");
  bool isInteger = isa<IntegerType>(inputElement);
  int64_t groups = op.getGroups(), filters = weightType.getDimSize(0),
          channels = weightType.getDimSize(1), spatial = weightType.getRank() - 2;
  if (filters % groups != 0)
    return op.emitOpError("expects the number of filters (")
           << filters << ") to be a multiple of the groups (" << groups << ")";
  bool depthwise = groups > 1 && channels == 1 && filters == groups;
  bool grouped = groups > 1 && !depthwise;

  Value zero = isInteger ? l.scalar(op.getInputZero()) : Value();
  Value padding = isInteger ? arith::TruncIOp::create(b, loc, storageType(inputElement), zero)
                            : l.constantF32(0);
  Value input = padInput(op, l, l.stored(op.getInput()), padding);
  SmallVector<OpFoldResult> inputShape = l.shapeOf(input), shape{inputShape[0], b.getIndexAttr(filters)};
  for (int64_t d = 0; d < spatial; ++d) {
    if (!outputType.isDynamicDim(d + 2)) {
      shape.push_back(b.getIndexAttr(outputType.getDimSize(d + 2)));
      continue;
    }
    int64_t reach = (weightType.getDimSize(d + 2) - 1) * op.getDilations()[d] + 1;
    AffineExpr extent = b.getAffineDimExpr(0);
    shape.push_back(affine::makeComposedFoldedAffineApply(
        b, loc, (extent - reach).floorDiv(op.getStrides()[d]) + 1, {inputShape[d + 2]}));
  }
  SmallVector<int64_t> kernel(weightType.getShape().drop_front(2)), weightShape{filters};
  if (grouped)
    weightShape = {groups, filters / groups};
  if (!depthwise)
    weightShape.push_back(channels);
  weightShape.append(kernel);
  Value weight = isInteger ? l.storedAs(op.getWeight(), weightShape)
                           : l.storedAs(realWeights(op, l), weightShape);
  SmallVector<OpFoldResult> accShape = shape;
  SmallVector<ReassociationIndices> split;
  if (grouped) {
    // [N, G·C, …] as [N, G, C, …], and the result likewise.
    split = {{0}, {1, 2}};
    for (int64_t d = 0; d < spatial; ++d)
      split.push_back({d + 3});
    auto type = cast<RankedTensorType>(input.getType());
    SmallVector<int64_t> splitShape{type.getDimSize(0), groups, channels};
    splitShape.append(type.getShape().drop_front(2).begin(), type.getShape().end());
    SmallVector<OpFoldResult> sizes{inputShape[0], b.getIndexAttr(groups), b.getIndexAttr(channels)};
    sizes.append(inputShape.begin() + 2, inputShape.end());
    if (type.isDynamicDim(1)) {
      SmallVector<int64_t> known(type.getShape());
      known[1] = groups * channels;
      input = tensor::CastOp::create(b, loc, type.clone(known), input);
    }
    input = tensor::ExpandShapeOp::create(b, loc, type.clone(splitShape), input, split, sizes);
    accShape[1] = b.getIndexAttr(groups);
    accShape.insert(accShape.begin() + 2, b.getIndexAttr(filters / groups));
  }

  // The loops, outermost first.
  unsigned next = 0;
  auto loop = [&] { return getAffineDimExpr(next++, context); };
  SmallVector<AffineExpr> in, w, out;
  SmallVector<unsigned> reductions;
  AffineExpr batch = loop();
  in.push_back(batch);
  out.push_back(batch);
  AffineExpr first = loop(); // The filter, or the group of filters.
  w.push_back(first);
  out.push_back(first);
  if (grouped || depthwise)
    in.push_back(first);
  if (grouped) {
    w.push_back(loop());
    out.push_back(w.back());
  }
  if (!depthwise) {
    reductions.push_back(next);
    w.push_back(loop());
    in.push_back(w.back());
  }
  SmallVector<AffineExpr> taps;
  for (int64_t d = 0; d < spatial; ++d) {
    reductions.push_back(next);
    taps.push_back(loop());
    w.push_back(taps.back());
  }
  for (int64_t d = 0; d < spatial; ++d) {
    AffineExpr position = loop();
    out.push_back(position);
    in.push_back(position * op.getStrides()[d] + taps[d] * op.getDilations()[d]);
  }
  Value acc = l.contract(
      {input, weight}, {AffineMap::get(next, 0, in, context), AffineMap::get(next, 0, w, context)},
      AffineMap::get(next, 0, out, context), reductions, accShape,
      isInteger ? Type(b.getI32Type()) : b.getF32Type(), [&](OpBuilder &b, ValueRange args) -> Value {
        if (!isInteger) {
          Value product = arith::MulFOp::create(b, loc, args[0], args[1]);
          return arith::AddFOp::create(b, loc, args[2], product);
        }
        Value x = Lowering::widen(b, loc, args[0], inputElement, b.getI32Type());
        x = arith::SubIOp::create(b, loc, x, zero);
        Value tap = Lowering::widen(b, loc, args[1], weightElement, b.getI32Type());
        return arith::AddIOp::create(b, loc, args[2], arith::MulIOp::create(b, loc, x, tap));
      });
  if (grouped) {
    auto type = cast<RankedTensorType>(acc.getType());
    SmallVector<int64_t> merged{type.getDimSize(0), filters};
    merged.append(type.getShape().drop_front(3).begin(), type.getShape().end());
    acc = tensor::CollapseShapeOp::create(b, loc, type.clone(merged), acc, split);
  }
  result = lowerEpilogue(op, l, acc, 1);
  return success();
}
