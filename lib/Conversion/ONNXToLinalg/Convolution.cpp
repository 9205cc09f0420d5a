//===- Convolution.cpp - Conv and ConvTranspose -----------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Loops in the order n, group, filter, output rows, channel, kernel, output
// columns: the innermost one walks a row of the result and of the input, so the
// compiler vectorizes it without reassociating any sum. Where the innermost loop
// can walk filters instead, ChannelsLast.cpp is faster.
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "ChannelsLast.h"
#include "Num.h"
#include "Window.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

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
          Value outside =
              arith::CmpIOp::create(l.b, arith::CmpIPredicate::sge, l.value(last), l.value(limit));
          output =
              arith::SelectOp::create(l.b, outside, l.value(steps), l.value(output)).getResult();
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

/// The bias, one number per filter; where only the run knows that there are so many, checked then.
static Value biasOperand(Lowering &l, OpFoldResult filters) {
  Value bias = l.in(2);
  if (l.dims(2)[0] == l.resultDims()[1])
    return bias;
  Scope top{l.b, l.b.getLoc()};
  Value fits = top.size(l.dim(bias, 0)) == top.size(filters);
  l.check(fits, "the bias does not have one number per filter");
  return tabulate(
      l, {filters}, l.inType(2).getElementType(),
      [&](Scope s, ArrayRef<Num> at) { return s.read(bias, at); }, fits);
}

Value lowbit::onnx::initialSums(Lowering &l, ArrayRef<OpFoldResult> sizes, Type sum, unsigned axis,
                                bool bias) {
  if (!bias || !l.has(2))
    return l.filled(sizes, l.scalar(sum, 0));
  return l.parallel(biasOperand(l, sizes[axis]), l.mapOf(sizes.size(), {l.d(axis)}), sizes, sum,
                    [&](OpBuilder &b, Location loc, ValueRange v) -> Value {
                      return v[0].getType() == sum
                                 ? v[0]
                                 : arith::ExtFOp::create(b, loc, sum, v[0]).getResult();
                    });
}

Value lowbit::onnx::splitDim(Lowering &l, Value tensor, int64_t axis, int64_t outer) {
  auto type = cast<RankedTensorType>(tensor.getType());
  SmallVector<int64_t> shape(type.getShape());
  SmallVector<ReassociationIndices> runs;
  Sizes sizes = l.sizes(tensor);
  OpFoldResult inner = l.div(sizes[axis], l.index(outer));
  if (type.isDynamicDim(axis) && outer > 1) {
    Sizes cut = sizes;
    cut[axis] = l.mul(inner, l.index(outer));
    l.check(arith::CmpIOp::create(l.b, arith::CmpIPredicate::eq, l.value(cut[axis]),
                                  l.value(sizes[axis])),
            "the number of channels is no multiple of the groups");
    tensor = l.slice(tensor, Sizes(cut.size(), l.index(0)), cut);
  }
  sizes[axis] = inner;
  sizes.insert(sizes.begin() + axis, l.index(outer));
  shape[axis] = getConstantIntValue(inner).value_or(ShapedType::kDynamic);
  shape.insert(shape.begin() + axis, outer);
  int64_t next = 0;
  for (int64_t i = 0; i < type.getRank(); ++i) {
    runs.push_back({next++});
    if (i == axis)
      runs.back().push_back(next++);
  }
  return tensor::ExpandShapeOp::create(l.b, type.clone(shape), tensor, runs, sizes);
}

Value lowbit::onnx::joinGroups(Lowering &l, Value tensor, int64_t axis) {
  SmallVector<ReassociationIndices> runs;
  int64_t rank = cast<RankedTensorType>(tensor.getType()).getRank();
  for (int64_t i = 0; i < rank; ++i)
    if (i == axis + 1)
      runs.back().push_back(i);
    else
      runs.push_back({i});
  return tensor::CollapseShapeOp::create(l.b, tensor, runs);
}

/// The convolution of operands 0 and 1, lowered to `input` and `weight`.
static LogicalResult convOf(Lowering &l, Value input, Value weight, bool bias) {
  RankedTensorType weightType = l.inType(1);
  int64_t group = l.attr("group", 1), spatial = weightType.getRank() - 2;
  Type element = l.resultType().getElementType(), sum = accumulator(element);
  Sizes kernel;
  for (int64_t i = 0; i < spatial; ++i)
    kernel.push_back(l.dim(weight, i + 2));
  Window w = readWindow(l, kernel);
  bool grouped = group > 1;
  Sizes outSizes = {l.dim(input, 0), l.dim(weight, 0)};
  outSizes.append(w.output);
  Value init = initialSums(l, outSizes, sum, /*axis=*/1, bias);
  if (!grouped)
    l.equalize(input, 1, l.dims(0)[1], weight, 1, l.dims(1)[1], "the numbers of channels");
  input = padWindow(l, w, input, l.scalar(element, 0));
  if (grouped) {
    input = splitDim(l, input, 1, group);
    weight = splitDim(l, weight, 0, group);
    init = splitDim(l, init, 1, group);
    if (l.shapes.mul(l.dims(1)[1], group) != l.dims(0)[1])
      l.equalize(input, 2, l.shapes.opaque("channels of a group", l.dims(0)[1]), weight, 2,
                 l.dims(1)[1], "the numbers of channels");
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
  Value result =
      l.generic({input, weight}, init,
                {l.mapOf(next, inExprs), l.mapOf(next, weightExprs), l.mapOf(next, outExprs)},
                iterators, multiplyAdd);
  if (grouped)
    result = joinGroups(l, result);
  return l.replace(narrow(l, result, element));
}

static LogicalResult conv(Lowering &l) {
  if (fitsChannelsLast(l))
    return convChannelsLast(l);
  return convOf(l, l.in(0), l.in(1), /*bias=*/true);
}

/// Padding stands for the zero point, so zero points go before it.
static LogicalResult convInteger(Lowering &l) {
  FailureOr<Value> input = lessZeroPoint(l, 0, 2, 1), weight = lessZeroPoint(l, 1, 3, 0);
  return failed(input) || failed(weight) ? failure() : convOf(l, *input, *weight, /*bias=*/false);
}

namespace {
/// The geometry of a ConvTranspose, one entry per spatial dim.
struct TransposedWindow {
  SmallVector<int64_t> strides, dilations;
  Sizes kernel, output;
  Sizes low;  ///< Elements of the full result in front of `output`.
  Sizes full; ///< Every tap fits into it.
};
} // namespace

static TransposedWindow readTransposedWindow(Lowering &l) {
  TransposedWindow w;
  size_t n = l.rank(1) - 2;
  w.strides = onnx::getInts(l.op, "strides", n, 1);
  w.dilations = onnx::getInts(l.op, "dilations", n, 1);
  SmallVector<int64_t> pads = onnx::getInts(l.op, "pads", 2 * n, 0);
  SmallVector<int64_t> extra = onnx::getInts(l.op, "output_padding", n, 0);
  SmallVector<int64_t> wanted = onnx::getInts(l.op, "output_shape");
  StringRef autoPad = onnx::getString(l.op, "auto_pad", "NOTSET");
  bool same = autoPad.starts_with("SAME");
  for (size_t i = 0; i < n; ++i) {
    OpFoldResult input = l.dim(l.in(0), i + 2), kernel = l.dim(l.in(1), i + 2), low, output;
    OpFoldResult reach = l.add(
        l.mul(l.max(l.sub(kernel, l.index(1)), l.index(0)), l.index(w.dilations[i])), l.index(1));
    OpFoldResult steps = l.max(l.sub(input, l.index(1)), l.index(0));
    OpFoldResult span = l.add(l.mul(steps, l.index(w.strides[i])), reach);
    OpFoldResult whole = l.add(span, l.index(extra[i]));
    if (same || !wanted.empty()) {
      output = wanted.empty() ? l.mul(input, l.index(w.strides[i])) : l.index(wanted[i]);
      OpFoldResult total = l.max(l.sub(whole, output), l.index(0)), half = l.div(total, l.index(2));
      low = autoPad == "SAME_UPPER" ? half : l.sub(total, half);
    } else {
      int64_t front = autoPad == "VALID" ? 0 : pads[i], back = autoPad == "VALID" ? 0 : pads[n + i];
      low = l.index(front);
      output = l.max(l.sub(whole, l.index(front + back)), l.index(0));
    }
    w.kernel.push_back(kernel);
    w.output.push_back(output);
    w.low.push_back(low);
    w.full.push_back(l.max(span, l.add(output, low)));
  }
  return w;
}

/// `sums` with tap `tap` of the kernel added: a strided view of it gets input times weight. Loops
/// n, g, f, spatial but the last, c, last: the innermost one walks rows.
static Value addTap(Lowering &l, const TransposedWindow &w, Value input, Value weight, Value sums,
                    ArrayRef<Value> tap) {
  unsigned spatial = w.kernel.size(), loops = 4 + spatial, c = loops - 2;
  Sizes inputSizes = l.sizes(input), weightSizes = l.sizes(weight), sumSizes = l.sizes(sums);
  Sizes offsets(3, l.index(0)), view(sumSizes.begin(), sumSizes.begin() + 3), steps(3, l.index(1));
  Sizes weightOffsets(3, l.index(0)), weightView(weightSizes.begin(), weightSizes.begin() + 3);
  SmallVector<AffineExpr> inExprs = {l.d(0), l.d(1), l.d(c)}, outExprs = {l.d(0), l.d(1), l.d(2)};
  SmallVector<AffineExpr> kernelExprs = {l.d(1), l.d(c), l.d(2)};
  for (unsigned i = 0; i < spatial; ++i) {
    offsets.push_back(l.mul(tap[i], l.index(w.dilations[i])));
    view.push_back(inputSizes[i + 3]);
    steps.push_back(l.index(w.strides[i]));
    weightOffsets.push_back(tap[i]);
    weightView.push_back(l.index(1));
    AffineExpr loop = l.d(i + 1 < spatial ? 3 + i : loops - 1);
    inExprs.push_back(loop);
    outExprs.push_back(loop);
    kernelExprs.push_back(l.b.getAffineConstantExpr(0));
  }
  SmallVector<IteratorType> iterators(loops, IteratorType::parallel);
  iterators[c] = IteratorType::reduction;
  Value part = l.generic(
      {input, l.slice(weight, weightOffsets, weightView)}, l.slice(sums, offsets, view, steps),
      {l.mapOf(loops, inExprs), l.mapOf(loops, kernelExprs), l.mapOf(loops, outExprs)}, iterators,
      multiplyAdd);
  return tensor::InsertSliceOp::create(l.b, part, sums, offsets, view, steps);
}

/// The result's element o gets every input element i and tap k with i * stride + k * dilation = o +
/// pad: each tap adds to a strided view of the (uncropped) result.
static LogicalResult convTranspose(Lowering &l) {
  Value input = l.in(0), weight = l.in(1);
  int64_t group = l.attr("group", 1), spatial = l.rank(1) - 2;
  Type element = l.resultType().getElementType(), sum = accumulator(element);
  l.equalize(input, 1, l.dims(0)[1], weight, 0, l.dims(1)[0], "the numbers of channels");
  TransposedWindow w = readTransposedWindow(l);
  OpFoldResult filters = l.mul(l.dim(weight, 1), l.index(group));
  Sizes full = {l.dim(input, 0), filters}, outSizes = full, crop(2, l.index(0));
  full.append(w.full);
  outSizes.append(w.output);
  crop.append(w.low);
  Value init = splitDim(l, l.filled(full, l.scalar(sum, 0)), 1, group);
  input = splitDim(l, input, 1, group);
  weight = splitDim(l, weight, 0, group);
  Value sums = init;
  // Without an input element there is no view to add to.
  bool empty = false;
  for (OpFoldResult size : l.sizes(input))
    empty |= getConstantIntValue(size) == 0;
  for (OpFoldResult size : l.sizes(weight))
    empty |= getConstantIntValue(size) == 0;
  if (!empty) {
    SmallVector<Value> lower(spatial, l.value(l.index(0))), upper,
        step(spatial, l.value(l.index(1)));
    for (OpFoldResult size : w.kernel)
      upper.push_back(l.value(size));
    auto nest = scf::buildLoopNest(
        l.b, l.b.getLoc(), lower, upper, step, init,
        [&](OpBuilder &, Location, ValueRange tap, ValueRange carried) -> scf::ValueVector {
          return {addTap(l, w, input, weight, carried[0], llvm::to_vector(tap))};
        });
    sums = nest.results[0];
  }
  sums = l.slice(joinGroups(l, sums), crop, outSizes);
  unsigned rank = spatial + 2;
  SmallVector<Value> inputs = {sums};
  SmallVector<AffineMap> maps = {l.b.getMultiDimIdentityMap(rank)};
  if (l.has(2)) {
    inputs.push_back(biasOperand(l, filters));
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
  table["ConvInteger"] = convInteger;
  table["ConvTranspose"] = convTranspose;
}
