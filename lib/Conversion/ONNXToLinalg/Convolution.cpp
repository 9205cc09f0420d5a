//===- Convolution.cpp - Conv and ConvTranspose -----------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Loops in the order n, group, filter, output rows, channel, kernel, output
// columns: the innermost one walks a row of the result and of the input, so the
// compiler vectorizes it without reassociating any sum.
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "Window.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

Window lowbit::onnx::readWindow(Lowering &l, ArrayRef<OpFoldResult> kernel) {
  Window w;
  size_t n = kernel.size();
  w.kernel = Sizes(kernel);
  w.strides = onnx::getInts(l.op, "strides", n, 1);
  w.dilations = onnx::getInts(l.op, "dilations", n, 1);
  SmallVector<int64_t> pads = onnx::getInts(l.op, "pads", 2 * n, 0);
  StringRef autoPad = onnx::getString(l.op, "auto_pad", "NOTSET");
  bool ceil = l.attr("ceil_mode", 0) == 1, same = autoPad.starts_with("SAME");
  for (size_t i = 0; i < n; ++i) {
    OpFoldResult input = l.dim(l.in(0), i + 2), stride = l.index(w.strides[i]);
    OpFoldResult reach =
        l.add(l.mul(l.sub(kernel[i], l.index(1)), l.index(w.dilations[i])), l.index(1));
    OpFoldResult output, low, end;
    if (same) {
      output = l.div(l.add(input, l.index(w.strides[i] - 1)), stride);
      OpFoldResult needed =
          l.max(l.sub(l.add(l.mul(l.sub(output, l.index(1)), stride), reach), input), l.index(0));
      OpFoldResult half = l.div(needed, l.index(2)), rest = l.sub(needed, half);
      low = autoPad == "SAME_UPPER" ? half : rest;
      end = autoPad == "SAME_UPPER" ? rest : half;
    } else {
      low = l.index(autoPad == "VALID" ? 0 : pads[i]);
      end = l.index(autoPad == "VALID" ? 0 : pads[n + i]);
      // At least one window; a smaller input at the run is reported by the run-time check below.
      OpFoldResult room = l.sub(l.add(l.add(input, low), end), reach);
      if (!isa<Attribute>(room)) {
        Value fits = arith::CmpIOp::create(l.b, arith::CmpIPredicate::sge, l.value(room),
                                           l.value(l.index(0)));
        l.check(fits, "the input is smaller than the window");
      }
      room = l.max(room, l.index(0));
      OpFoldResult steps = l.div(ceil ? l.add(room, l.index(w.strides[i] - 1)) : room, stride);
      output = l.add(steps, l.index(1));
      if (ceil) { // A window that would start in the padding behind the input is left out.
        OpFoldResult last = l.mul(steps, stride), limit = l.add(input, low);
        std::optional<int64_t> a = getConstantIntValue(last), b = getConstantIntValue(limit);
        if (a && b) {
          output = *a >= *b ? steps : output;
        } else {
          Value outside = arith::CmpIOp::create(l.b, arith::CmpIPredicate::sge, l.value(last),
                                                l.value(limit));
          output = arith::SelectOp::create(l.b, outside, l.value(steps), l.value(output)).getResult();
        }
      }
    }
    OpFoldResult needed = l.add(l.mul(l.sub(output, l.index(1)), stride), reach);
    w.input.push_back(input);
    w.output.push_back(output);
    w.low.push_back(low);
    w.high.push_back(l.max(l.sub(needed, l.add(input, low)), l.index(0)));
    w.declaredEnd.push_back(end);
  }
  return w;
}

Value lowbit::onnx::padWindow(Lowering &l, const Window &w, Value input, Value fill) {
  Sizes low(2, l.index(0)), high(2, l.index(0));
  low.append(w.low);
  high.append(w.high);
  return l.pad(input, low, high, fill);
}

/// `sizes` filled with the bias along dim 1, or with 0.
static Value initialSums(Lowering &l, ArrayRef<OpFoldResult> sizes, Type sum) {
  if (!l.has(2))
    return l.filled(sizes, l.scalar(sum, 0));
  return l.parallel(l.in(2), l.mapOf(sizes.size(), {l.d(1)}), sizes, sum,
                    [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                      return v[0].getType() == sum
                                 ? v[0]
                                 : arith::ExtFOp::create(b, loc, sum, v[0]).getResult();
                    });
}

/// Dim `axis` of `tensor` split in two, the outer one of size `outer`.
static Value splitDim(Lowering &l, Value tensor, int64_t axis, int64_t outer) {
  auto type = cast<RankedTensorType>(tensor.getType());
  SmallVector<int64_t> shape(type.getShape());
  int64_t inner = shape[axis] / outer;
  shape[axis] = inner;
  shape.insert(shape.begin() + axis, outer);
  SmallVector<ReassociationIndices> runs;
  Sizes sizes;
  int64_t next = 0;
  for (int64_t i = 0; i < type.getRank(); ++i) {
    runs.push_back({next++});
    if (i == axis) {
      runs.back().push_back(next++);
      sizes.push_back(l.index(outer));
      sizes.push_back(l.index(inner));
    } else {
      sizes.push_back(l.dim(tensor, i));
    }
  }
  return tensor::ExpandShapeOp::create(l.b, type.clone(shape), tensor, runs, sizes);
}

static LogicalResult conv(Lowering &l) {
  Value input = l.in(0), weight = l.in(1);
  RankedTensorType weightType = l.inType(1);
  int64_t group = l.attr("group", 1), spatial = weightType.getRank() - 2;
  Type element = l.resultType().getElementType(), sum = accumulator(element);
  Sizes kernel;
  for (int64_t i = 0; i < spatial; ++i)
    kernel.push_back(l.dim(weight, i + 2));
  Window w = readWindow(l, kernel);
  bool grouped = group > 1;
  if (grouped && (weightType.isDynamicDim(0) || l.inType(0).isDynamicDim(1)))
    return l.unsupported("groups with a number of channels that only the run knows");
  Sizes outSizes = {l.dim(input, 0), l.dim(weight, 0)};
  outSizes.append(w.output);
  Value init = initialSums(l, outSizes, sum);
  if (!grouped)
    l.equalize(input, 1, l.dims(0)[1], weight, 1, l.dims(1)[1], "the numbers of channels");
  input = padWindow(l, w, input, l.scalar(element, 0));
  if (grouped) {
    input = splitDim(l, input, 1, group);
    weight = splitDim(l, weight, 0, group);
    init = splitDim(l, init, 1, group);
  }

  // Loop numbers.
  unsigned next = 0;
  unsigned n = next++, g = grouped ? next++ : 0, f = next++;
  SmallVector<unsigned> out(spatial), window(spatial);
  for (int64_t i = 0; i + 1 < spatial; ++i)
    out[i] = next++;
  unsigned c = next++;
  for (int64_t i = 0; i < spatial; ++i)
    window[i] = next++;
  out[spatial - 1] = next++;

  SmallVector<AffineExpr> inExprs = {l.d(n)}, weightExprs, outExprs = {l.d(n)};
  if (grouped)
    for (auto *exprs : {&inExprs, &weightExprs, &outExprs})
      exprs->push_back(l.d(g));
  inExprs.push_back(l.d(c));
  weightExprs.append({l.d(f), l.d(c)});
  outExprs.push_back(l.d(f));
  SmallVector<IteratorType> iterators(next, IteratorType::parallel);
  iterators[c] = IteratorType::reduction;
  for (int64_t i = 0; i < spatial; ++i) {
    inExprs.push_back(l.d(out[i]) * w.strides[i] + l.d(window[i]) * w.dilations[i]);
    weightExprs.push_back(l.d(window[i]));
    outExprs.push_back(l.d(out[i]));
    iterators[window[i]] = IteratorType::reduction;
  }
  Value result = l.generic(
      {input, weight}, init,
      {l.mapOf(next, inExprs), l.mapOf(next, weightExprs), l.mapOf(next, outExprs)}, iterators,
      multiplyAdd);
  if (grouped) {
    SmallVector<ReassociationIndices> runs;
    for (int64_t i = 0, at = 0; i < spatial + 2; ++i) {
      runs.push_back({at++});
      if (i == 1)
        runs.back().push_back(at++);
    }
    result = tensor::CollapseShapeOp::create(l.b, result, runs);
  }
  return l.replace(narrow(l, result, element));
}

/// The result's element o gets every input element i and tap k with i * stride + k * dilation = o + pad: each tap
/// adds a strided view of the (uncropped) result.
static LogicalResult convTranspose(Lowering &l) {
  Value input = l.in(0), weight = l.in(1);
  RankedTensorType weightType = l.inType(1), inputType = l.inType(0), type = l.resultType();
  int64_t group = l.attr("group", 1), spatial = weightType.getRank() - 2;
  Type element = type.getElementType(), sum = accumulator(element);
  if (!weightType.hasStaticShape() || inputType.isDynamicDim(1))
    return l.unsupported("a weight or channels with a size that only the run knows");
  SmallVector<int64_t> strides = onnx::getInts(l.op, "strides", spatial, 1);
  SmallVector<int64_t> dilations = onnx::getInts(l.op, "dilations", spatial, 1);
  SmallVector<int64_t> pads = onnx::getInts(l.op, "pads", 2 * spatial, 0);
  SmallVector<int64_t> extra = onnx::getInts(l.op, "output_padding", spatial, 0);
  StringRef autoPad = onnx::getString(l.op, "auto_pad", "NOTSET");
  for (int64_t i = 0; i < spatial; ++i)
    if (type.isDynamicDim(i + 2) && (hasInts(l.op, "output_shape") || autoPad != "NOTSET"))
      return l.unsupported("auto_pad with a size that only the run knows");

  // Full sizes: every tap fits; the crop comes afterwards.
  Sizes full = {l.dim(input, 0), l.index(weightType.getDimSize(1) * group)}, crop(2, l.index(0)),
        outSizes = full;
  for (int64_t i = 0; i < spatial; ++i) {
    OpFoldResult reach = l.index((weightType.getDimSize(i + 2) - 1) * dilations[i] + 1);
    OpFoldResult span = l.add(
        l.mul(l.max(l.sub(l.dim(input, i + 2), l.index(1)), l.index(0)), l.index(strides[i])), reach);
    int64_t low = pads[i];
    OpFoldResult out = l.sub(l.add(span, l.index(extra[i])), l.index(pads[i] + pads[spatial + i]));
    if (!type.isDynamicDim(i + 2)) {
      out = l.index(type.getDimSize(i + 2));
      if (hasInts(l.op, "output_shape") || autoPad.starts_with("SAME")) {
        int64_t total = *getConstantIntValue(span) + extra[i] - type.getDimSize(i + 2);
        total = std::max<int64_t>(total, 0);
        low = autoPad == "SAME_UPPER" ? total / 2 : total - total / 2;
      }
    }
    crop.push_back(l.index(low));
    outSizes.push_back(out);
    full.push_back(l.max(span, l.add(out, l.index(low))));
  }
  Value init = splitDim(l, l.filled(full, l.scalar(sum, 0)), 1, group);
  input = splitDim(l, input, 1, group);
  weight = splitDim(l, weight, 0, group);
  // One pass per tap over a strided view: loops n, g, f, spatial…, c with c as the reduction before the last dim.
  int64_t taps = 1;
  for (int64_t i = 0; i < spatial; ++i)
    taps *= weightType.getDimSize(i + 2);
  if (taps > 1024)
    return l.unsupported("a kernel of more than 1024 taps");
  Sizes inputSizes = l.sizes(input), weightSizes = l.sizes(weight);
  for (int64_t tap = 0; tap < taps; ++tap) {
    Sizes offsets(3, l.index(0)), view = {full[0], l.index(group), l.index(weightType.getDimSize(1))};
    Sizes steps(3, l.index(1)), weightOffsets(3, l.index(0));
    Sizes weightView = {weightSizes[0], weightSizes[1], weightSizes[2]};
    int64_t rest = tap;
    SmallVector<int64_t> at(spatial);
    for (int64_t i = spatial - 1; i >= 0; --i) {
      at[i] = rest % weightType.getDimSize(i + 2);
      rest /= weightType.getDimSize(i + 2);
    }
    for (int64_t i = 0; i < spatial; ++i) {
      offsets.push_back(l.index(at[i] * dilations[i]));
      view.push_back(inputSizes[i + 3]);
      steps.push_back(l.index(strides[i]));
      weightOffsets.push_back(l.index(at[i]));
      weightView.push_back(l.index(1));
    }
    Value part = l.slice(init, offsets, view, steps);
    Value kernel = l.slice(weight, weightOffsets, weightView);
    // n, g, f, spatial but the last, c, last
    unsigned loops = 4 + spatial, c = loops - 2;
    SmallVector<AffineExpr> inExprs = {l.d(0), l.d(1), l.d(c)}, outExprs = {l.d(0), l.d(1), l.d(2)};
    SmallVector<AffineExpr> kernelExprs = {l.d(1), l.d(c), l.d(2)};
    for (int64_t i = 0; i < spatial; ++i) {
      AffineExpr loop = l.d(i + 1 < spatial ? 3 + i : loops - 1);
      inExprs.push_back(loop);
      outExprs.push_back(loop);
      kernelExprs.push_back(l.b.getAffineConstantExpr(0));
    }
    SmallVector<IteratorType> iterators(loops, IteratorType::parallel);
    iterators[c] = IteratorType::reduction;
    part = l.generic({input, kernel}, part,
                     {l.mapOf(loops, inExprs), l.mapOf(loops, kernelExprs), l.mapOf(loops, outExprs)},
                     iterators, multiplyAdd);
    init = tensor::InsertSliceOp::create(l.b, part, init, offsets, view, steps);
  }
  SmallVector<ReassociationIndices> runs;
  for (int64_t i = 0, at = 0; i < spatial + 2; ++i) {
    runs.push_back({at++});
    if (i == 1)
      runs.back().push_back(at++);
  }
  Value sums = l.slice(tensor::CollapseShapeOp::create(l.b, init, runs), crop, outSizes);
  unsigned rank = spatial + 2;
  SmallVector<Value> inputs = {sums};
  SmallVector<AffineMap> maps = {l.b.getMultiDimIdentityMap(rank)};
  if (l.has(2)) {
    inputs.push_back(l.in(2));
    maps.push_back(l.mapOf(rank, {l.d(1)}));
  }
  return l.replace(
      l.parallel(inputs, maps, outSizes, element, [&](OpBuilder &b, Location loc, ValueRange v) {
        Value x = v[0];
        if (v.size() > 1)
          x = addScalars(b, loc, x, castScalar(b, loc, v[1], element, sum));
        return castScalar(b, loc, x, sum, element);
      }));
}

void lowbit::onnx::addConvolutionLowerings(LoweringTable &table) {
  table["Conv"] = conv;
  table["ConvTranspose"] = convTranspose;
}
