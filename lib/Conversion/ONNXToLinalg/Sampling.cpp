//===- Sampling.cpp - images read at computed places ------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// GridSample, AffineGrid, RoiAlign. Places come from the model's inputs, so every
// index is clamped before it is used, a NaN's too.
//
//===----------------------------------------------------------------------===//
#include "Num.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

//===----------------------------------------------------------------------===//
// GridSample
//===----------------------------------------------------------------------===//

namespace {
struct GridOptions {
  bool nearest, cubic, align;
  StringRef padding;
};
} // namespace

/// `x` mirrored at the borders until it lies between them.
static Num reflect(Num x, Num low, Num high) {
  Num range = high - low, safe = (range > 0).select(range, range.like(1));
  Num below = x < low;
  Num distance = below.select(low - x, x - high);
  Num times = (distance / safe).floor();
  Num rest = distance - times * safe;
  Num odd = (times * 0.5).floor() * 2 == times;
  // Even: the way back from the border that was crossed; odd: from the other one.
  Num fromLow = low + rest, fromHigh = high - rest;
  Num even = below.select(fromLow, fromHigh), other = below.select(fromHigh, fromLow);
  Num mirrored = odd.select(even, other);
  return (below | (x > high)).select((range > 0).select(mirrored, low), x);
}

/// An input index and whether it counts, for a tap at integer coordinate `tap` of a dim of `size`.
static std::pair<Num, Num> tapIndex(Scope s, Num tap, Num size, Num low, Num high,
                                    StringRef padding) {
  Type i64 = s.b.getI64Type();
  Num at = padding == "reflection" ? reflect(tap, low, high) : tap;
  Num index = at.to(i64).toIndex(), last = size - 1;
  Num inside = padding == "zeros"
                   ? (tap >= 0) & (tap <= last.to(tap.type()))
                   : s.num(arith::ConstantOp::create(s.b, s.loc, s.b.getBoolAttr(true)));
  return {index.min(last).max(0), inside};
}

/// Coefficients of the 1, 2 or 4 taps around the floor of a coordinate, at distance `x` from it.
static SmallVector<Num> gridWeights(const GridOptions &options, Num x) {
  if (options.nearest)
    return {x.like(1)};
  if (!options.cubic)
    return {x.like(1) - x, x};
  double a = -0.75;
  auto outer = [&](Num y) { return ((y * a - 5 * a) * y + 8 * a) * y - 4 * a; };
  auto inner = [&](Num y) { return (y * (a + 2) - (a + 3)) * y * y + 1; };
  return {outer(x + 1), inner(x), inner(x.like(1) - x), outer(x.like(2) - x)};
}

static LogicalResult gridSample(Lowering &l) {
  StringRef mode = getString(l.op, "mode", "linear");
  GridOptions options = {mode == "nearest", mode == "cubic" || mode == "bicubic",
                         l.attr("align_corners", 0) == 1, getString(l.op, "padding_mode", "zeros")};
  Type element = l.resultType().getElementType();
  Type compute = isa<FloatType>(element) ? realType(element) : l.b.getF32Type();
  Type gridElement = l.inType(1).getElementType();
  if (!isa<FloatType>(element) && !options.nearest)
    return l.unsupported("elements cannot be of this type");
  Value input = l.in(0), grid = l.in(1);
  l.equalize(input, 0, l.dims(0)[0], grid, 0, l.dims(1)[0], "the batch sizes");
  size_t n = l.rank(0) - 2;
  Sizes own = l.sizes(input), places = l.sizes(grid), sizes = {own[0], own[1]};
  sizes.append(places.begin() + 1, places.begin() + 1 + n);
  // An image without pixels has nothing to clamp to.
  Scope top{l.b, l.b.getLoc()};
  std::optional<Num> some;
  if (!l.dims(1).back().constant())
    some = top.size(places.back()) == n;
  for (size_t i = 0; i < n; ++i) {
    if (l.dims(0)[i + 2].constant() && !l.dims(0)[i + 2].isConstant(0))
      continue;
    Num here = top.size(own[i + 2]) > 0;
    some = some ? *some & here : here;
  }
  Value guard;
  if (some) {
    guard = *some;
    l.check(guard, "the grid does not fit, or the image has no pixels");
  }
  int64_t taps = options.nearest ? 1 : options.cubic ? 4 : 2;
  return l.replace(tabulate(
      l, sizes, element,
      [&](Scope s, ArrayRef<Num> at) {
        SmallVector<SmallVector<Num>> indices(n), weights(n), inside(n);
        for (size_t i = 0; i < n; ++i) {
          SmallVector<Num> place = {at[0]};
          place.append(at.begin() + 2, at.end());
          place.push_back(s.index(n - 1 - i)); // The grid's coordinates are x, y(, z).
          Num where = s.num(castScalar(s.b, s.loc, s.read(grid, place), gridElement, compute));
          Num size = s.size(own[i + 2]), length = size.to(compute);
          Num x = options.align ? (where + 1) / 2 * (length - 1) : ((where + 1) * length - 1) / 2;
          Num low = options.align ? x.like(0) : x.like(-0.5);
          Num high = options.align ? length - 1 : length - 0.5;
          if (options.nearest)
            x = x.roundEven();
          if (options.padding == "border" &&
              !options.cubic) // Cubic: each tap by itself, as in PyTorch.
            x = ((x < low) | (x > high)).select(x.max(0).min(length - 1), x);
          else if (options.padding == "reflection")
            x = reflect(x, low, high);
          // A coordinate that is no number reads the first pixel, times NaN.
          Num floor = options.nearest ? x.roundEven() : x.floor();
          weights[i] = gridWeights(options, x - floor);
          for (int64_t k = 0; k < taps; ++k) {
            auto [index, counts] = tapIndex(s, floor + (k - (options.cubic ? 1 : 0)), size, low,
                                            high, options.padding);
            indices[i].push_back(index);
            inside[i].push_back(counts);
          }
        }
        int64_t all = 1;
        for (size_t i = 0; i < n; ++i)
          all *= taps;
        std::optional<Num> sum;
        for (int64_t combination = 0; combination < all; ++combination) {
          SmallVector<Num> from = {at[0], at[1]};
          std::optional<Num> factor, counts;
          int64_t rest = combination;
          for (size_t i = 0; i < n; ++i, rest /= taps) {
            int64_t k = rest % taps;
            from.push_back(indices[i][k]);
            counts = counts ? *counts & inside[i][k] : inside[i][k];
            factor = factor ? *factor * weights[i][k] : weights[i][k];
          }
          Num x = s.read(input, from);
          x = counts->select(x, s.constant(element, 0));
          if (options.nearest)
            return x;
          Num term = x.to(compute) * *factor;
          sum = sum ? *sum + term : term;
        }
        return sum->to(element);
      },
      guard));
}

/// The points of a regular grid over [-1, 1], each transformed by the batch's matrix.
static LogicalResult affineGrid(Lowering &l) {
  Type element = l.resultType().getElementType();
  if (!isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  Type compute = realType(element);
  bool align = l.attr("align_corners", 0) == 1;
  size_t n = l.resultDims().size() - 2;
  Value theta = l.in(0), list = listOperand(l, 1, n + 2);
  Scope top{l.b, l.b.getLoc()};
  Sizes sizes;
  for (size_t i = 0; i < n + 2; ++i) {
    if (i == 1)
      continue; // The channels.
    OpFoldResult known = l.known(l.resultDims()[i == 0 ? 0 : i - 1]);
    sizes.push_back(known ? known : top.read(list, top.index(i)).toIndex().max(0).value());
  }
  // One matrix per batch entry.
  Value guard;
  bool square = l.dims(0)[1].constant() && l.dims(0)[2].constant();
  if (l.dims(0)[0] != l.resultDims()[0] || !square) {
    guard = (top.size(l.dim(theta, 0)) == top.size(sizes[0])) & (top.size(l.dim(theta, 1)) == n) &
            (top.size(l.dim(theta, 2)) == n + 1);
    l.check(guard, "theta does not fit size");
  }
  sizes.push_back(l.index(n));
  return l.replace(tabulate(
      l, sizes, element,
      [&](Scope s, ArrayRef<Num> at) {
        Num row = at.back();
        auto entry = [&](size_t column) {
          Num x = s.read(theta, {at[0], row, s.index(column)});
          return s.num(castScalar(s.b, s.loc, x, element, compute));
        };
        Num sum = entry(n);
        for (size_t i = 0; i < n; ++i) {
          // Dim n - 1 is x, the first coordinate.
          Num length = s.size(sizes[n - i]).to(compute), position = at[n - i].to(compute);
          Num point =
              align ? position * 2 / (length - 1).max(1) - 1 : (position * 2 + 1) / length - 1;
          sum = sum + entry(i) * point;
        }
        return sum.to(element);
      },
      guard));
}

//===----------------------------------------------------------------------===//
// RoiAlign
//===----------------------------------------------------------------------===//

static LogicalResult roiAlign(Lowering &l) {
  Type element = l.resultType().getElementType(), i64 = l.b.getI64Type();
  if (!isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  Type compute = realType(element);
  bool halfPixel = getString(l.op, "coordinate_transformation_mode", "half_pixel") == "half_pixel";
  bool average = getString(l.op, "mode", "avg") != "max";
  double scale = getFloat(l.op, "spatial_scale", 1), offset = halfPixel ? 0.5 : 0;
  int64_t sampling = l.attr("sampling_ratio", 0);
  Value input = l.in(0), rois = l.in(1), batches = l.in(2);
  l.equalize(rois, 0, l.dims(1)[0], batches, 0, l.dims(2)[0], "the numbers of regions");
  Sizes own = l.sizes(input);
  Scope top{l.b, l.b.getLoc()};
  Num images = top.size(own[0]);
  Num some = (images > 0) & (top.size(own[2]) > 0) & (top.size(own[3]) > 0) &
             (top.size(l.dim(rois, 1)) == 4);
  Value fine = tensor::FromElementsOp::create(l.b, RankedTensorType::get({}, l.b.getI1Type()),
                                              ValueRange{some.value()});
  Value all = l.generic(batches, fine, {l.mapOf(1, {l.d(0)}), l.mapOf(1, {})},
                        {IteratorType::reduction}, [&](OpBuilder &b, Location loc, ValueRange v) {
                          Num index = Num(b, loc, v[0]).toIndex();
                          Num inside = (index >= 0) & (index < images) & Num(b, loc, v[1]);
                          linalg::YieldOp::create(b, loc, inside.value());
                        });
  Value valid = tensor::ExtractOp::create(l.b, all, ValueRange());
  l.check(valid, "a batch index is out of range, or images or regions have an impossible shape");
  Sizes sizes = {l.dim(rois, 0), own[1], l.index(l.resultType().getDimSize(2)),
                 l.index(l.resultType().getDimSize(3))};
  return l.replace(tabulate(
      l, sizes, element,
      [&](Scope s, ArrayRef<Num> at) {
        auto roi = [&](int64_t column) {
          return s.read(rois, {at[0], s.index(column)}).to(compute) * scale - offset;
        };
        Num batch = s.read(batches, at[0]).toIndex();
        // Of rows and of columns: the bin's start, its size and the number of samples in it.
        SmallVector<Num> starts, bins, samples, lengths;
        for (unsigned k = 0; k < 2; ++k) {
          Num start = roi(1 - k), size = roi(3 - k) - start;
          if (!halfPixel)
            size = size.max(1);
          Num bin = size / s.size(sizes[2 + k]).to(compute);
          starts.push_back(start + at[2 + k].to(compute) * bin);
          bins.push_back(bin);
          samples.push_back(sampling > 0 ? s.index(sampling) : bin.ceil().to(i64).toIndex().max(0));
          lengths.push_back(s.size(own[2 + k]));
        }
        Num zero = s.constant(compute, 0), no = s.constant(s.b.getI1Type(), 0);
        auto result = s.loops(
            samples, {zero, no},
            [&](Scope s, ArrayRef<Num> tap, ArrayRef<Num> state) -> SmallVector<Num> {
              SmallVector<Num> low, high, weight;
              std::optional<Num> inside;
              for (unsigned k = 0; k < 2; ++k) {
                Num x = starts[k] + (tap[k].to(compute) + 0.5) * bins[k] / samples[k].to(compute);
                Num here = (x >= -1) & (x <= lengths[k].to(compute));
                inside = inside ? *inside & here : here;
                Num last = lengths[k] - 1;
                x = x.max(0).min(last.to(compute));
                Num floor = x.floor().to(i64).toIndex().max(0).min(last);
                low.push_back(floor);
                high.push_back((floor + s.index(1)).min(last));
                weight.push_back(x - floor.to(compute));
              }
              Num best = zero, sum = zero;
              for (unsigned corner = 0; corner < 4; ++corner) {
                bool y = corner & 2, x = corner & 1;
                Num wy = y ? weight[0] : zero.like(1) - weight[0];
                Num wx = x ? weight[1] : zero.like(1) - weight[1];
                Num pixel =
                    s.read(input, {batch, at[1], y ? high[0] : low[0], x ? high[1] : low[1]});
                Num term = inside->select(pixel.to(compute) * (wy * wx), zero);
                sum = sum + term;
                best = corner ? best.max(term) : term;
              }
              if (average)
                return {state[0] + sum, state[1]};
              return {state[1].select(state[0].max(best), best), s.constant(s.b.getI1Type(), 1)};
            });
        Num value = result[0];
        if (average)
          value = value / (samples[0] * samples[1]).max(1).to(compute);
        return value.to(element);
      },
      valid));
}

void lowbit::onnx::addSamplingLowerings(LoweringTable &table) {
  table["AffineGrid"] = affineGrid;
  table["GridSample"] = gridSample;
  table["RoiAlign"] = roiAlign;
}
