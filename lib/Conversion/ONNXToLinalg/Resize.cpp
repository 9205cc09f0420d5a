//===- Resize.cpp - resampling of a tensor along some of its dims -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every mode is separable: an output position of one dim is a weighted sum of a
// run of input positions of that dim. A table per dim says where the run starts
// and the weights; one pass per dim applies it. Nearest mode needs one position
// per output position and no weights, so all dims go in one pass. Coordinates are
// f32, as in onnxruntime.
//
//===----------------------------------------------------------------------===//
#include "Num.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace lowbit;
using namespace lowbit::onnx;

namespace {
/// One dim that changes.
struct Axis {
  unsigned dim;
  Value scale;              ///< f32
  OpFoldResult input, size; ///< Of the input and of the result.
  Value extent;             ///< f32: the result's size before it is rounded to an integer.
  Value start, end;         ///< f32: the region of interest; null where the mode has none.
};

struct Options {
  StringRef mode, coordinates, nearest;
  bool antialias, excludeOutside;
  double cubicA, extrapolation;
  /// Elements that a weight reaches to each side.
  int64_t radius() const { return mode == "cubic" ? 2 : 1; }
};
} // namespace

/// Where output position `at` lies in the input, by ONNX's coordinate_transformation_mode.
static Num sourcePosition(Scope s, const Axis &axis, StringRef mode, Num at) {
  Num x = at.to(s.b.getF32Type()), scale = s.num(axis.scale), extent = s.num(axis.extent);
  auto length = [&](OpFoldResult size) { return s.size(size).to(s.b.getF32Type()); };
  if (mode == "asymmetric")
    return x / scale;
  if (mode == "tf_half_pixel_for_nn")
    return (x + 0.5) / scale;
  if (mode == "align_corners" || mode == "tf_crop_and_resize") {
    Num single = extent == 1, last = length(axis.input) - 1;
    Num span = mode == "align_corners" ? last : last * (s.num(axis.end) - s.num(axis.start));
    Num step = x * span / single.select(x.like(1), extent - 1);
    if (mode == "align_corners")
      return single.select(x.like(0), step);
    return single.select(span * 0.5, step) + s.num(axis.start) * last;
  }
  Num position = (x + 0.5) / scale - 0.5;
  if (mode == "pytorch_half_pixel")
    return (extent == 1).select(x.like(-0.5), position);
  if (mode == "half_pixel_symmetric")
    return length(axis.input) * 0.5 * (x.like(1) - length(axis.size) / extent) + position;
  return position;
}

/// True where the position is not in the region that is cropped, so that the result is
/// extrapolated.
static Num isOutside(Scope s, const Axis &axis, Num position) {
  Num last = s.size(axis.input).to(position.type()) - 1;
  return (position < 0) | (position > last);
}

static Num clamp(Scope s, Num index, OpFoldResult size) {
  Num last = s.size(size) - 1;
  return index.min(last).max(0);
}

static Num roundNearest(Num x, StringRef mode) {
  if (mode == "floor")
    return x.floor();
  if (mode == "ceil")
    return x.ceil();
  return mode == "round_prefer_ceil" ? (x + 0.5).floor() : (x - 0.5).ceil();
}

static Num weight(Num distance, const Options &options) {
  Num x = distance.abs();
  if (options.mode == "linear")
    return (x.like(1) - x).max(0);
  double a = options.cubicA;
  Num inner = (x * (a + 2) - (a + 3)) * x * x + 1;
  Num outer = ((x * a - 5 * a) * x + 8 * a) * x - 4 * a;
  return (x <= 1).select(inner, (x < 2).select(outer, x.like(0)));
}

static Value nearest(Lowering &l, ArrayRef<Axis> axes, const Options &options, const Sizes &sizes,
                     Value nonEmpty) {
  Value input = l.in(0);
  Type element = l.resultType().getElementType();
  SmallVector<Value> tables, outside;
  for (const Axis &axis : axes) {
    tables.push_back(tabulate(l, axis.size, l.b.getI64Type(), [&](Scope s, ArrayRef<Num> at) {
      Num position = sourcePosition(s, axis, options.coordinates, at[0]);
      Num index = roundNearest(position, options.nearest).to(s.b.getI64Type()).toIndex();
      Num found = clamp(s, index, axis.input).to(s.b.getI64Type());
      if (!axis.start)
        return found;
      return isOutside(s, axis, position).select(found.like(-1), found);
    }));
  }
  return tabulate(
      l, sizes, element,
      [&](Scope s, ArrayRef<Num> at) {
        SmallVector<Num> from(at);
        std::optional<Num> inside;
        for (auto [axis, table] : llvm::zip(axes, tables)) {
          from[axis.dim] = s.read(table, at[axis.dim]).toIndex();
          if (!axis.start)
            continue;
          Num here = from[axis.dim] >= 0;
          inside = inside ? *inside & here : here;
          from[axis.dim] = from[axis.dim].max(0);
        }
        Num x = s.read(input, from);
        return inside ? inside->select(x, s.constant(element, options.extrapolation)) : x;
      },
      nonEmpty);
}

/// One pass of a weighted resampling, from `input` of element type `compute` or of the op's.
static Value resampleAxis(Lowering &l, Value input, const Axis &axis, const Options &options,
                          Type compute, Value nonEmpty) {
  Type f32 = l.b.getF32Type(), i64 = l.b.getI64Type();
  Type element = cast<RankedTensorType>(input.getType()).getElementType();
  Type declared = element == compute ? compute : l.element(0);
  // Taps start .. start + count around the position's floor; shrunk inputs widen the weights.
  Scope top{l.b, l.b.getLoc()};
  OpFoldResult start = l.index(1 - options.radius()), count = l.index(2 * options.radius());
  Num shrink = top.constant(f32, 1);
  if (options.antialias) {
    shrink = top.num(axis.scale).min(1);
    Num first = (shrink.like(-options.radius()) / shrink).floor() + 1;
    Num from = first.to(i64).toIndex().max(-(1 << 20));
    start = from.value();
    count = (top.index(2) - from * 2).value();
  }
  Value startIndex = l.value(start), countIndex = l.value(count);
  auto position = [&](Scope s, Num at) { return sourcePosition(s, axis, options.coordinates, at); };
  Value firsts = tabulate(l, axis.size, i64, [&](Scope s, ArrayRef<Num> at) {
    // Far outside the input every tap is an edge, so the position may stay in its neighbourhood.
    Num floor = position(s, at[0]).floor().to(i64).toIndex();
    Num size = s.size(axis.input);
    Num reach = s.num(countIndex) + 1;
    return (floor.min(size + reach).max(-reach) + s.num(startIndex)).to(i64);
  });
  auto tapWeight = [&](Scope s, Num at, Num tap) {
    Num x = position(s, at), floor = x.floor();
    Num w = weight((tap.to(f32) + s.num(startIndex).to(f32) - (x - floor)) * shrink, options);
    if (!options.excludeOutside)
      return w;
    Num index = s.read(firsts, at).toIndex() + tap;
    Num size = s.size(axis.input);
    return ((index >= 0) & (index < size)).select(w, w.like(0));
  };
  bool normalize = options.antialias || options.excludeOutside;
  Value sums;
  if (normalize)
    sums = tabulate(l, axis.size, f32, [&](Scope s, ArrayRef<Num> at) {
      Num sum = s.loop(s.num(countIndex), s.constant(f32, 0),
                       [&](Scope s, Num tap, ArrayRef<Num> state) -> SmallVector<Num> {
                         return {state[0] + tapWeight(s, at[0], tap)};
                       })[0];
      return (sum == 0).select(sum.like(1), sum);
    });
  Value weights = tabulate(l, {axis.size, count}, f32, [&](Scope s, ArrayRef<Num> at) {
    Num w = tapWeight(s, at[0], at[1]);
    return normalize ? w / s.read(sums, at[0]) : w;
  });

  Sizes sizes = l.sizes(input);
  sizes[axis.dim] = axis.size;
  return tabulate(
      l, sizes, compute,
      [&](Scope s, ArrayRef<Num> at) {
        Num out = at[axis.dim], first = s.read(firsts, out).toIndex();
        Num sum =
            s.loop(s.num(countIndex), s.constant(compute, 0),
                   [&](Scope s, Num tap, ArrayRef<Num> state) -> SmallVector<Num> {
                     SmallVector<Num> from(at);
                     from[axis.dim] = clamp(s, first + tap, axis.input);
                     Num x = s.num(castScalar(s.b, s.loc, s.read(input, from), declared, compute));
                     return {state[0] + x * s.read(weights, {out, tap}).to(compute)};
                   })[0];
        if (!axis.start)
          return sum;
        return isOutside(s, axis, position(s, out)).select(sum.like(options.extrapolation), sum);
      },
      nonEmpty);
}

/// Entry i of operand 3, which has one for each of `count` axes.
static OpFoldResult sizeEntry(Lowering &l, Value list, unsigned i) {
  if (l.dims(3)[0].constant())
    return l.entry(3, i);
  Scope s{l.b, l.b.getLoc()};
  return s.read(list, s.index(i)).toIndex().value();
}

/// For sizes with a keep_aspect_ratio_policy: the one scale of all axes, f32.
static Value commonScale(Lowering &l, Value list, ArrayRef<int64_t> axes, bool smallest) {
  Scope s{l.b, l.b.getLoc()};
  std::optional<Num> best;
  for (auto [i, dim] : llvm::enumerate(axes)) {
    Num wanted = s.num(l.value(sizeEntry(l, list, i))).to(l.b.getF64Type());
    Num scale = wanted / s.num(l.value(l.dim(l.in(0), dim))).to(l.b.getF64Type());
    best = !best ? scale : smallest ? best->min(scale) : best->max(scale);
  }
  return *best;
}

/// Fills in every axis that changes, the sizes of the result, and where only the run knows it
/// whether there is anything to read.
static LogicalResult readAxes(Lowering &l, const Options &options, SmallVector<Axis> &moved,
                              Sizes &sizes, Value &nonEmpty) {
  int64_t rank = l.rank(0);
  Type f32 = l.b.getF32Type();
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(rank));
  if (hasInts(l.op, "axes"))
    axes = getInts(l.op, "axes");
  for (int64_t &axis : axes)
    axis += axis < 0 ? rank : 0;
  bool bySize = l.has(3) && !l.dims(3)[0].isConstant(0);
  bool crops = options.coordinates == "tf_crop_and_resize";
  StringRef policy = getString(l.op, "keep_aspect_ratio_policy", "stretch");
  std::optional<ConstantData> scales =
      bySize ? std::nullopt : ConstantData::get(getOperand(l.op, 2));
  Value list, region, common;
  if (!scales)
    list = listOperand(l, bySize ? 3 : 2, axes.size());
  if (crops)
    region = listOperand(l, 1, 2 * axes.size());
  if (bySize && policy != "stretch")
    common = commonScale(l, list, axes, policy == "not_larger");

  Sizes own = l.sizes(l.in(0));
  sizes = own;
  Scope s{l.b, l.b.getLoc()};
  for (auto [i, dim] : llvm::enumerate(axes)) {
    bool same = bySize && !common && l.resultDims()[dim] == l.dims(0)[dim];
    if (!crops && (same || (scales && scales->toFloats()[i] == 1.0f)))
      continue;
    Axis axis{(unsigned)dim, {}, own[dim], {}, {}, {}, {}};
    std::optional<int64_t> known = l.resultDims()[dim].constant();
    Num length = s.num(l.value(own[dim])).to(f32);
    if (bySize && !common) {
      axis.size = l.max(sizeEntry(l, list, i), l.index(0));
      axis.extent = s.num(l.value(axis.size)).to(f32);
      axis.scale = s.num(axis.extent) / length;
    } else {
      Num exact = common   ? s.num(common)
                  : scales ? s.constant(f32, scales->toFloats()[i])
                           : s.read(list, s.index(i));
      axis.scale = exact.to(f32);
      axis.extent = length * s.num(axis.scale);
      Num extent = common ? (s.num(l.value(own[dim])).to(exact.type()) * exact + 0.5).floor()
                          : s.num(axis.extent);
      axis.size = l.max(extent.to(l.b.getI64Type()).toIndex().value(), l.index(0));
      Value positive = exact > 0;
      if (!scales)
        l.check(positive, "a scale is not positive");
    }
    if (known)
      axis.size = l.index(*known);
    if (crops) {
      auto bound = [&](int64_t at) { return s.read(region, s.index(at)).to(f32).value(); };
      axis.start = bound(i);
      axis.end = bound(axes.size() + i);
    }
    if (l.dims(0)[dim].isConstant(0) && known != 0)
      return l.unsupported("an empty input");
    if (!l.dims(0)[dim].constant()) {
      Num some = s.num(l.value(own[dim])) > 0;
      l.check(some, "an empty input cannot be resized");
      nonEmpty = nonEmpty ? (s.num(nonEmpty) & some).value() : some.value();
    }
    sizes[dim] = axis.size;
    moved.push_back(axis);
  }
  return success();
}

static LogicalResult resize(Lowering &l) {
  Options options = {getString(l.op, "mode", "nearest"),
                     getString(l.op, "coordinate_transformation_mode", "half_pixel"),
                     getString(l.op, "nearest_mode", "round_prefer_floor"),
                     l.attr("antialias", 0) == 1,
                     l.attr("exclude_outside", 0) == 1,
                     getFloat(l.op, "cubic_coeff_a", -0.75),
                     getFloat(l.op, "extrapolation_value", 0)};
  Type element = l.resultType().getElementType();
  if (options.mode == "nearest" && options.antialias)
    return l.unsupported("antialias in mode nearest");
  if (options.mode != "nearest" && element.isInteger(1))
    return l.unsupported("elements cannot be of this type");
  if (options.coordinates == "tf_crop_and_resize" && (!l.has(1) || l.dims(1)[0].isConstant(0)))
    return l.unsupported("coordinates tf_crop_and_resize without a region of interest");
  SmallVector<Axis> axes;
  Sizes sizes;
  Value nonEmpty;
  if (failed(readAxes(l, options, axes, sizes, nonEmpty)))
    return failure();
  if (options.mode == "nearest")
    return l.replace(nearest(l, axes, options, sizes, nonEmpty));
  Type compute = realType(element);
  Value result = l.in(0);
  for (const Axis &axis : axes)
    result = resampleAxis(l, result, axis, options, compute, nonEmpty);
  if (axes.empty() || compute == element)
    return l.replace(result);
  AffineMap identity = l.b.getMultiDimIdentityMap(sizes.size());
  return l.replace(
      l.parallel(result, identity, sizes, element, [&](OpBuilder &b, Location loc, ValueRange v) {
        Num x{b, loc, v[0]};
        bool integer = !isa<FloatType>(element);
        return castScalar(b, loc, integer ? x.roundEven() : x, compute, l.element(0));
      }));
}

void lowbit::onnx::addResizeLowerings(LoweringTable &table) { table["Resize"] = resize; }
