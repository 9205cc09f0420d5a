//===- Columns.cpp - Col2Im and DeformConv ----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "Num.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

/// Each pixel of the image sums the entries of the blocks that cover it.
static LogicalResult col2im(Lowering &l) {
  size_t n = l.resultDims().size() - 2;
  SmallVector<int64_t> strides = getInts(l.op, "strides", n, 1);
  SmallVector<int64_t> dilations = getInts(l.op, "dilations", n, 1);
  SmallVector<int64_t> pads = getInts(l.op, "pads", 2 * n, 0);
  Type element = l.element(0), sum = accumulator(l.resultType().getElementType());
  if (element.isInteger(1))
    return l.unsupported("elements cannot be of this type");
  Value input = l.in(0), image = listOperand(l, 1, n), block = listOperand(l, 2, n);
  Scope top{l.b, l.b.getLoc()};
  Sizes sizes = {l.dim(input, 0), {}};
  SmallVector<Num> kernel, counts;
  Num taps = top.index(1), blocks = top.index(1);
  for (size_t i = 0; i < n; ++i) {
    OpFoldResult known = l.known(l.resultDims()[i + 2]);
    sizes.push_back(known ? known : top.read(image, top.index(i)).toIndex().max(0).value());
    kernel.push_back(top.read(block, top.index(i)).toIndex().max(1));
    Num room = top.size(sizes[i + 2]) + top.index(pads[i] + pads[n + i]) -
               (kernel[i] - 1) * top.index(dilations[i]) - 1;
    Num count = room / top.index(strides[i]) + 1;
    counts.push_back((room < 0).select(top.index(0), count));
    taps = taps * kernel[i];
    blocks = blocks * counts[i];
  }
  Num channels = top.size(l.dim(input, 1)) / taps;
  Num fits = (channels * taps == top.size(l.dim(input, 1))) & (blocks == top.size(l.dim(input, 2)));
  l.check(fits, "the input does not have the blocks that image and block shape imply");
  Num zero = top.index(0);
  OpFoldResult knownChannels = l.known(l.resultDims()[1]);
  // Nothing is read where the input does not fit.
  for (Num &count : counts)
    count = fits.select(count, zero);
  sizes[1] = knownChannels ? knownChannels : OpFoldResult(channels.value());
  return l.replace(
      tabulate(l, sizes, l.resultType().getElementType(), [&](Scope s, ArrayRef<Num> at) {
        Num total = s.loops(
            kernel, s.constant(sum, 0),
            [&](Scope s, ArrayRef<Num> tap, ArrayRef<Num> state) -> SmallVector<Num> {
              Num row = at[1], column = s.index(0);
              std::optional<Num> inside;
              for (size_t i = 0; i < n; ++i) {
                // Which block has this pixel as its tap.
                Num x = at[i + 2] + s.index(pads[i]) - tap[i] * s.index(dilations[i]);
                Num which = x / s.index(strides[i]);
                Num here = (x >= 0) & (which * s.index(strides[i]) == x) & (which < counts[i]);
                inside = inside ? *inside & here : here;
                row = row * kernel[i] + tap[i];
                column = column * counts[i] + which;
              }
              return {s.choose(
                  *inside,
                  [&](Scope s) {
                    Value x = s.read(input, {at[0], row, column});
                    return state[0] + s.num(castScalar(s.b, s.loc, x, toSignless(element), sum));
                  },
                  [&](Scope) { return state[0]; })};
            })[0];
        return total.to(l.resultType().getElementType());
      }));
}

/// The input at (y, x) of one channel, linear between pixels and 0 outside the image.
static Num bilinear(Scope s, Value input, Num batch, Num channel, Num y, Num x, Num rows,
                    Num columns) {
  Type i64 = s.b.getI64Type();
  Num top = y.floor(), left = x.floor(), zero = y.like(0), sum = zero;
  for (unsigned corner = 0; corner < 4; ++corner) {
    bool lower = corner & 2, right = corner & 1;
    Num row = lower ? top + 1 : top, column = right ? left + 1 : left;
    Num weight = (lower ? y - top : top + 1 - y) * (right ? x - left : left + 1 - x);
    Num inside =
        (row >= 0) & (row < rows.to(y.type())) & (column >= 0) & (column < columns.to(y.type()));
    Num term = s.choose(
        inside,
        [&](Scope s) {
          Num pixel = s.read(input, {batch, channel, row.to(i64).toIndex().min(rows - 1).max(0),
                                     column.to(i64).toIndex().min(columns - 1).max(0)});
          return pixel.to(y.type()) * weight;
        },
        [&](Scope) { return zero; });
    sum = sum + term;
  }
  return sum;
}

/// Columns of the input, each tap read where its offset says, then a product with the weights.
static LogicalResult deformConv(Lowering &l) {
  Type element = l.resultType().getElementType();
  if (!isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  if (l.rank(0) != 4)
    return l.unsupported("an input that is not a batch of images (rank 4)");
  Type compute = accumulator(element);
  Value input = l.in(0), weight = l.in(1), offset = l.in(2);
  SmallVector<int64_t> strides = getInts(l.op, "strides", 2, 1);
  SmallVector<int64_t> dilations = getInts(l.op, "dilations", 2, 1);
  SmallVector<int64_t> pads = getInts(l.op, "pads", 4, 0);
  int64_t group = l.attr("group", 1), offsetGroups = l.attr("offset_group", 1);
  Scope top{l.b, l.b.getLoc()};
  Sizes own = l.sizes(input), kernel = l.sizes(weight), places = l.sizes(offset);
  Num taps = top.size(kernel[2]) * top.size(kernel[3]);
  Num channels = top.size(own[1]), perGroup = top.size(kernel[1]);
  Num perOffset = channels / top.index(offsetGroups);
  Num fits = (channels == perGroup * top.index(group)) &
             (perOffset * top.index(offsetGroups) == channels) &
             (top.size(places[1]) == taps * top.index(2 * offsetGroups)) &
             (top.size(places[0]) == top.size(own[0])) &
             (top.size(kernel[0]).rem(top.index(group)) == 0);
  for (unsigned k = 0; k < 2; ++k) {
    Num room = top.size(own[2 + k]) + top.index(pads[k] + pads[2 + k]) -
               (top.size(kernel[2 + k]) - 1) * top.index(dilations[k]) - 1;
    fits = fits & (room >= 0) & (room / top.index(strides[k]) + 1 == top.size(places[2 + k]));
  }
  bool masked = l.has(4);
  if (masked) {
    Sizes mask = l.sizes(l.in(4));
    fits = fits & (top.size(mask[0]) == top.size(own[0])) &
           (top.size(mask[1]) == taps * top.index(offsetGroups)) &
           (top.size(mask[2]) == top.size(places[2])) & (top.size(mask[3]) == top.size(places[3]));
  }
  if (l.has(3))
    fits = fits & (top.size(l.dim(l.in(3), 0)) == top.size(kernel[0]));
  l.check(fits, "input, weight, offset and mask do not fit together");

  Sizes columnSizes = {own[0], own[1], kernel[2], kernel[3], places[2], places[3]};
  Value columns = tabulate(
      l, columnSizes, compute,
      [&](Scope s, ArrayRef<Num> at) {
        Num width = s.size(kernel[3]), tap = at[2] * width + at[3];
        Num groupTap = at[1] / perOffset * taps + tap;
        auto position = [&](unsigned k) {
          Num shift = s.read(offset, {at[0], groupTap * s.index(2) + s.index(k), at[4], at[5]});
          Num base = at[4 + k] * s.index(strides[k]) + at[2 + k] * s.index(dilations[k]) -
                     s.index(pads[k]);
          return base.to(compute) + shift.to(compute);
        };
        Num x = bilinear(s, input, at[0], at[1], position(0), position(1), s.size(own[2]),
                         s.size(own[3]));
        if (masked)
          x = x * s.read(l.in(4), {at[0], groupTap, at[4], at[5]}).to(compute);
        return x;
      },
      fits);
  Sizes sizes = {own[0], kernel[0], places[2], places[3]};
  Num filtersPerGroup = top.size(kernel[0]) / top.index(group);
  return l.replace(tabulate(
      l, sizes, element,
      [&](Scope s, ArrayRef<Num> at) {
        Num first = at[1] / filtersPerGroup * perGroup;
        Num initial = s.constant(compute, 0);
        if (l.has(3))
          initial = s.read(l.in(3), at[1]).to(compute);
        SmallVector<Num> counts = {perGroup, s.size(kernel[2]), s.size(kernel[3])};
        return s
            .loops(counts, initial,
                   [&](Scope s, ArrayRef<Num> tap, ArrayRef<Num> state) -> SmallVector<Num> {
                     Num x = s.read(columns, {at[0], first + tap[0], tap[1], tap[2], at[2], at[3]});
                     Num w = s.read(weight, {at[1], tap[0], tap[1], tap[2]}).to(compute);
                     return {state[0] + x * w};
                   })[0]
            .to(element);
      },
      fits));
}

void lowbit::onnx::addColumnLowerings(LoweringTable &table) {
  table["Col2Im"] = col2im;
  table["DeformConv"] = deformConv;
}
