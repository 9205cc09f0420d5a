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

/// The input with its spatial padding, which stands for the real value 0. Its spatial dimensions
/// start at `first`.
static Value padInput(ConvOp op, Lowering &l, Value input, Value padding, int64_t first) {
  ArrayRef<int64_t> pads = op.getPads();
  if (llvm::all_of(pads, [](int64_t pad) { return pad == 0; }))
    return input;
  size_t spatial = pads.size() / 2;
  auto type = cast<RankedTensorType>(input.getType());
  SmallVector<OpFoldResult> low(type.getRank(), l.b.getIndexAttr(0)), high = low;
  SmallVector<int64_t> shape(type.getShape());
  for (size_t d = 0; d < spatial; ++d) {
    low[first + d] = l.b.getIndexAttr(pads[d]);
    high[first + d] = l.b.getIndexAttr(pads[spatial + d]);
    if (!type.isDynamicDim(first + d))
      shape[first + d] += pads[d] + pads[spatial + d];
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

/// Size `d` of the result from that of the padded input.
static OpFoldResult resultExtent(ConvOp op, Lowering &l, int64_t d, OpFoldResult padded) {
  auto output = cast<RankedTensorType>(op.getOutput().getType());
  if (!output.isDynamicDim(d + 2))
    return l.b.getIndexAttr(output.getDimSize(d + 2));
  int64_t kernel = cast<RankedTensorType>(op.getWeight().getType()).getDimSize(d + 2);
  int64_t reach = (kernel - 1) * op.getDilations()[d] + 1;
  AffineExpr extent = l.b.getAffineDimExpr(0);
  return affine::makeComposedFoldedAffineApply(
      l.b, l.loc, (extent - reach).floorDiv(op.getStrides()[d]) + 1, {padded});
}

/// Adds the product of an element of the input and one of the weights to the accumulator.
static Value accumulate(OpBuilder &b, Location loc, ValueRange args, Value zero, Type inputElement,
                        Type weightElement) {
  if (!zero) {
    Value product = arith::MulFOp::create(b, loc, args[0], args[1]);
    return arith::AddFOp::create(b, loc, args[2], product);
  }
  Value x = Lowering::widen(b, loc, args[0], inputElement, b.getI32Type());
  x = arith::SubIOp::create(b, loc, x, zero);
  Value w = Lowering::widen(b, loc, args[1], weightElement, b.getI32Type());
  return arith::AddIOp::create(b, loc, args[2], arith::MulIOp::create(b, loc, x, w));
}

static Value transpose(Lowering &l, Value value, ArrayRef<int64_t> permutation) {
  SmallVector<OpFoldResult> sizes = l.shapeOf(value), permuted;
  for (int64_t d : permutation)
    permuted.push_back(sizes[d]);
  Value init = l.empty(permuted, cast<RankedTensorType>(value.getType()).getElementType());
  return linalg::TransposeOp::create(l.b, l.loc, value, init, permutation).getResult()[0];
}

/// One filter per channel. Channels last: loops are (batch, position…, kernel…, channel), so the
/// innermost one is contiguous in input, weights and result whatever the stride and however small
/// the image. The transposes cancel with those of kernels beside it that have channels last too.
static Value lowerDepthwise(ConvOp op, Lowering &l, Value zero, Value padding) {
  MLIRContext *context = op.getContext();
  Type inputElement = cast<RankedTensorType>(op.getInput().getType()).getElementType();
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  int64_t spatial = weightType.getRank() - 2, channels = weightType.getDimSize(0);
  SmallVector<int64_t> toLast{0}, toFirst{0, spatial + 1}, weightToLast;
  for (int64_t d = 0; d < spatial; ++d) {
    toLast.push_back(d + 2);
    toFirst.push_back(d + 1);
    weightToLast.push_back(d + 1);
  }
  toLast.push_back(1);
  weightToLast.push_back(0);

  Value input = padInput(op, l, transpose(l, l.stored(op.getInput()), toLast), padding, 1);
  SmallVector<int64_t> kernel(weightType.getShape().drop_front(2)), matrix{channels}, last = kernel;
  matrix.append(kernel);
  last.push_back(channels);
  Value weight = zero ? l.storedTransposed(op.getWeight(), channels, last) : Value();
  if (!weight)
    weight =
        transpose(l, l.storedAs(zero ? op.getWeight() : realWeights(op, l), matrix), weightToLast);
  SmallVector<OpFoldResult> inputShape = l.shapeOf(input), shape{inputShape[0]};
  for (int64_t d = 0; d < spatial; ++d)
    shape.push_back(resultExtent(op, l, d, inputShape[d + 1]));
  shape.push_back(l.b.getIndexAttr(channels));

  unsigned loops = 2 * spatial + 2;
  auto loop = [&](unsigned index) { return getAffineDimExpr(index, context); };
  SmallVector<AffineExpr> in{loop(0)}, w, out{loop(0)};
  SmallVector<unsigned> reductions;
  for (int64_t d = 0; d < spatial; ++d) {
    AffineExpr position = loop(1 + d), tap = loop(1 + spatial + d);
    reductions.push_back(1 + spatial + d);
    out.push_back(position);
    w.push_back(tap);
    in.push_back(position * op.getStrides()[d] + tap * op.getDilations()[d]);
  }
  for (SmallVector<AffineExpr> *exprs : {&in, &w, &out})
    exprs->push_back(loop(loops - 1));
  Value acc = l.contract(
      {input, weight},
      {AffineMap::get(loops, 0, in, context), AffineMap::get(loops, 0, w, context)},
      AffineMap::get(loops, 0, out, context), reductions, shape,
      zero ? Type(l.b.getI32Type()) : l.b.getF32Type(), [&](OpBuilder &b, ValueRange args) {
        return accumulate(b, l.loc, args, zero, inputElement, weightType.getElementType());
      });
  return transpose(l, lowerEpilogue(op, l, acc, spatial + 1), toFirst);
}

/// Loops are (batch, filter…, channel, kernel…, position…): the innermost one runs along a row of
/// the result and of the input while the weight stays, which a compiler can vectorize where the
/// stride is 1.
LogicalResult lowbit::lowerConv(ConvOp op, OpBuilder &b, Value &result) {
  Lowering l{b, op.getLoc()};
  Location loc = op.getLoc();
  MLIRContext *context = op.getContext();
  auto inputType = cast<RankedTensorType>(op.getInput().getType());
  auto weightType = cast<RankedTensorType>(op.getWeight().getType());
  Type inputElement = inputType.getElementType(), weightElement = weightType.getElementType();
  if (!weightType.hasStaticShape())
    return op.emitOpError("expects weights of static shape");
  bool isInteger = isa<IntegerType>(inputElement);
  int64_t groups = op.getGroups(), filters = weightType.getDimSize(0),
          channels = weightType.getDimSize(1), spatial = weightType.getRank() - 2;
  if (filters % groups != 0)
    return op.emitOpError("expects the number of filters (")
           << filters << ") to be a multiple of the groups (" << groups << ")";

  Value zero = isInteger ? l.scalar(op.getInputZero()) : Value();
  Value padding = isInteger ? arith::TruncIOp::create(b, loc, storageType(inputElement), zero)
                            : l.constantF32(0);
  if (groups > 1 && channels == 1 && filters == groups) {
    result = lowerDepthwise(op, l, zero, padding);
    return success();
  }
  bool grouped = groups > 1;
  Value input = padInput(op, l, l.stored(op.getInput()), padding, 2);
  SmallVector<OpFoldResult> inputShape = l.shapeOf(input),
                            shape{inputShape[0], b.getIndexAttr(filters)};
  for (int64_t d = 0; d < spatial; ++d)
    shape.push_back(resultExtent(op, l, d, inputShape[d + 2]));
  SmallVector<int64_t> kernel(weightType.getShape().drop_front(2)), weightShape{filters};
  if (grouped)
    weightShape = {groups, filters / groups};
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
    SmallVector<OpFoldResult> sizes{inputShape[0], b.getIndexAttr(groups),
                                    b.getIndexAttr(channels)};
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
  if (grouped) {
    in.push_back(first);
    w.push_back(loop());
    out.push_back(w.back());
  }
  reductions.push_back(next);
  w.push_back(loop());
  in.push_back(w.back());
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
      isInteger ? Type(b.getI32Type()) : b.getF32Type(),
      [&](OpBuilder &b, ValueRange args) -> Value {
        return accumulate(b, loc, args, zero, inputElement, weightElement);
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
