//===- ShapeRulesSpatial.cpp - shapes of operators on images and boxes -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ShapeRules.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/IR/Builders.h"

using namespace lowbit;

using Contents = std::vector<SymbolicExpr>;

/// The entries of an operand with sizes; fresh symbols where they are not tracked, nothing where
/// not even their number is known.
static std::optional<Contents> entries(RuleContext &c, unsigned i,
                                       std::optional<int64_t> count = std::nullopt) {
  if (c.in(i)->contents)
    return c.in(i)->contents;
  if (c.rank(i) == 1 && c.dims(i)[0].constant())
    count = c.dims(i)[0].constant();
  if (c.rank(i) != 1 || !count || *count > 64)
    return std::nullopt;
  Contents symbols;
  for (int64_t k = 0; k < *count; ++k)
    symbols.push_back(c.analysis.fresh());
  return symbols;
}

/// The sizes that a keep_aspect_ratio_policy makes of the wanted ones: one scale for all axes.
static LogicalResult keepAspectRatio(RuleContext &c, ArrayRef<int64_t> axes, Contents &sizes,
                                     StringRef policy) {
  std::optional<double> scale;
  bool known = true;
  for (auto [axis, size] : llvm::zip(axes, sizes)) {
    std::optional<int64_t> from = c.dims(0)[axis].constant(), to = size.constant();
    if (from == 0)
      return c.fail("an empty input cannot be resized");
    known &= from && to;
    if (!known)
      continue;
    double mine = (double)*to / (double)*from;
    scale = !scale                   ? mine
            : policy == "not_larger" ? std::min(*scale, mine)
                                     : std::max(*scale, mine);
  }
  for (auto [axis, size] : llvm::zip(axes, sizes))
    size = known && scale ? SymbolicExpr((int64_t)(*scale * *c.dims(0)[axis].constant() + 0.5))
                          : c.analysis.fresh();
  return success();
}

static LogicalResult resize(RuleContext &c) {
  Dims dims = c.dims(0);
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(c.rank(0)));
  if (onnx::hasInts(c.op, "axes")) {
    FailureOr<SmallVector<int64_t>> normal = c.axes(onnx::getInts(c.op, "axes"), c.rank(0));
    if (failed(normal))
      return failure();
    axes = *normal;
  }
  auto oneOf = [&](StringRef name, StringRef otherwise, ArrayRef<StringRef> known) {
    StringRef value = onnx::getString(c.op, name, otherwise);
    return llvm::is_contained(known, value)
               ? success()
               : c.fail(name + " '" + value + "' is not one of ONNX's");
  };
  if (failed(oneOf("mode", "nearest", {"nearest", "linear", "cubic"})) ||
      failed(oneOf("coordinate_transformation_mode", "half_pixel",
                   {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
                    "asymmetric", "tf_crop_and_resize", "tf_half_pixel_for_nn"})) ||
      failed(oneOf("nearest_mode", "round_prefer_floor",
                   {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"})) ||
      failed(
          oneOf("keep_aspect_ratio_policy", "stretch", {"stretch", "not_larger", "not_smaller"})))
    return failure();
  if (c.in(1) && c.rank(1) == 1 && c.dims(1)[0].constant() &&
      !llvm::is_contained({(int64_t)0, (int64_t)(2 * axes.size())}, *c.dims(1)[0].constant()))
    return c.fail("roi needs " + Twine(2 * axes.size()) + " entries");
  if (c.in(3) && !(c.rank(3) == 1 && c.dims(3)[0].isConstant(0))) {
    std::optional<Contents> sizes = entries(c, 3, axes.size());
    if (!sizes || sizes->size() != axes.size())
      return c.fail("sizes needs " + Twine(axes.size()) + " entries");
    StringRef policy = onnx::getString(c.op, "keep_aspect_ratio_policy", "stretch");
    if (policy != "stretch" && failed(keepAspectRatio(c, axes, *sizes, policy)))
      return failure();
    for (auto [axis, size] : llvm::zip(axes, *sizes))
      dims[axis] = size;
    return c.set(dims, c.element(0));
  }
  if (!c.in(2))
    return c.fail("needs scales or sizes");
  if (c.rank(2) != 1 || c.dims(2)[0].constant().value_or(axes.size()) != (int64_t)axes.size())
    return c.fail("scales needs " + Twine(axes.size()) + " entries");
  std::optional<ConstantData> data = ConstantData::get(onnx::getOperand(c.op, 2));
  if (!data) {
    for (int64_t axis : axes)
      dims[axis] = c.analysis.fresh();
    return c.set(dims, c.element(0));
  }
  for (auto [axis, scale] : llvm::zip(axes, data->toFloats())) {
    if (scale == 1.0f)
      continue;
    if (!(scale > 0) || scale > 65536)
      return c.fail("scales must be positive");
    std::optional<int64_t> size = dims[axis].constant();
    if (size)
      dims[axis] = (int64_t)((float)*size * scale); // As f32, like ONNX's own shape inference.
    else if (scale == (int64_t)scale)
      dims[axis] = c.analysis.mul(dims[axis], (int64_t)scale);
    else
      dims[axis] = c.analysis.fresh();
  }
  return c.set(dims, c.element(0));
}

/// `count` entries of attribute `name`, none below `least`; failure after a diagnostic else.
static FailureOr<SmallVector<int64_t>> numbers(RuleContext &c, StringRef name, size_t count,
                                               int64_t least) {
  SmallVector<int64_t> values = onnx::getInts(c.op, name, count, least);
  bool bad = values.size() != count;
  for (int64_t value : values)
    bad |= value < least || value > INT32_MAX;
  if (bad)
    return c.fail(name + " needs " + Twine(count) + " entries of at least " + Twine(least));
  return values;
}

static LogicalResult maxUnpool(RuleContext &c) {
  size_t n = onnx::getInts(c.op, "kernel_shape").size();
  if (c.rank(0) != (int64_t)n + 2)
    return c.fail("kernel_shape does not fit an input of shape " + describe(c.dims(0)));
  auto kernel = numbers(c, "kernel_shape", n, 1), strides = numbers(c, "strides", n, 1),
       pads = numbers(c, "pads", 2 * n, 0);
  if (failed(kernel) || failed(strides) || failed(pads))
    return failure();
  Dims dims = {c.dims(0)[0], c.dims(0)[1]};
  for (size_t i = 0; i < n; ++i)
    dims.push_back(
        c.analysis.add(c.analysis.mul(c.analysis.sub(c.dims(0)[i + 2], 1), (*strides)[i]),
                       (*kernel)[i] - (*pads)[i] - (*pads)[n + i]));
  if (c.in(2)) {
    std::optional<Contents> sizes = entries(c, 2, n + 2);
    if (!sizes || sizes->size() != n + 2)
      return c.fail("output_shape needs " + Twine(n + 2) + " entries");
    dims.assign(sizes->begin(), sizes->end());
  }
  return c.set(dims, c.element(0));
}

static LogicalResult lrn(RuleContext &c) {
  if (c.rank(0) < 2)
    return c.fail("an input of rank 2 or more is expected");
  if (int64_t size = c.attr("size", 1); size < 1 || size > INT32_MAX)
    return c.fail("size must be positive");
  return c.set(c.dims(0), c.element(0));
}

static LogicalResult col2im(RuleContext &c) {
  if (c.rank(0) != 3)
    return c.fail("an input of rank 3 is expected");
  std::optional<int64_t> count;
  if (c.rank(2) == 1)
    count = c.dims(2)[0].constant();
  std::optional<Contents> image = entries(c, 1, count);
  if (!image)
    return c.fail("the length of image_shape is not known, so neither is the rank");
  size_t n = image->size();
  std::optional<Contents> block = entries(c, 2, n);
  if (!block || block->size() != n)
    return c.fail("block_shape needs " + Twine(n) + " entries");
  if (failed(numbers(c, "strides", n, 1)) || failed(numbers(c, "dilations", n, 1)) ||
      failed(numbers(c, "pads", 2 * n, 0)))
    return failure();
  SymbolicExpr taps = c.analysis.product(ArrayRef<SymbolicExpr>(*block));
  for (const SymbolicExpr &size : *block)
    if (size.constant() && *size.constant() < 1)
      return c.fail("block_shape must be positive");
  if (taps.constant() && c.dims(0)[1].constant() && *c.dims(0)[1].constant() % *taps.constant())
    return c.fail("dim 1 of " + describe(c.dims(0)) + " is no multiple of the block's " +
                  Twine(*taps.constant()) + " elements");
  Dims dims = {c.dims(0)[0], c.analysis.floorDiv(c.dims(0)[1], taps)};
  dims.append(image->begin(), image->end());
  return c.set(dims, c.element(0));
}

static LogicalResult deformConv(RuleContext &c) {
  const Dims &x = c.dims(0), &w = c.dims(1), &offset = c.dims(2);
  if (x.size() < 3 || w.size() != x.size() || offset.size() != x.size() ||
      (c.in(4) && c.rank(4) != c.rank(0)) || (c.in(3) && c.rank(3) != 1))
    return c.fail("input, weight, offset and mask of one rank, at least 3, are expected");
  size_t n = x.size() - 2;
  for (StringRef name : {"group", "offset_group"})
    if (int64_t value = c.attr(name, 1); value < 1 || value > INT32_MAX)
      return c.fail(name + " must be positive");
  if (failed(numbers(c, "strides", n, 1)) || failed(numbers(c, "dilations", n, 1)) ||
      failed(numbers(c, "pads", 2 * n, 0)))
    return failure();
  Dims dims = {x[0], w[0]};
  dims.append(offset.begin() + 2, offset.end());
  return c.set(dims, c.element(0));
}

static LogicalResult gridSample(RuleContext &c) {
  const Dims &x = c.dims(0), &grid = c.dims(1);
  int64_t n = x.size() - 2;
  if (n < 1 || n > 3 || grid.size() != x.size() || grid.back().constant().value_or(n) != n)
    return c.fail("an input of rank 3 to 5 and a grid with one coordinate per spatial dim are "
                  "expected; found " +
                  describe(x) + " and " + describe(grid));
  if (!llvm::is_contained({"nearest", "linear", "bilinear", "cubic", "bicubic"},
                          onnx::getString(c.op, "mode", "linear")) ||
      !llvm::is_contained({"zeros", "border", "reflection"},
                          onnx::getString(c.op, "padding_mode", "zeros")))
    return c.fail("mode or padding_mode is not one of ONNX's");
  Dims dims = {x[0], x[1]};
  dims.append(grid.begin() + 1, grid.end() - 1);
  return c.set(dims, c.element(0));
}

static LogicalResult affineGrid(RuleContext &c) {
  if (c.rank(0) != 3)
    return c.fail("matrices (rank 3) are expected");
  std::optional<int64_t> rows = c.dims(0)[1].constant();
  std::optional<Contents> sizes =
      entries(c, 1, rows ? std::optional<int64_t>(*rows + 2) : std::nullopt);
  if (!sizes)
    return c.fail("the length of size is not known, so neither is the rank");
  int64_t n = sizes->size() - 2;
  if ((n != 2 && n != 3) || rows.value_or(n) != n ||
      c.dims(0)[2].constant().value_or(n + 1) != n + 1)
    return c.fail("theta is " + describe(c.dims(0)) +
                  "; 2 x 3 matrices with four sizes or 3 x 4 with five are expected");
  Dims dims = {(*sizes)[0]};
  dims.append(sizes->begin() + 2, sizes->end());
  dims.push_back(n);
  return c.set(dims, c.element(0));
}

static LogicalResult roiAlign(RuleContext &c) {
  if (c.rank(0) != 4 || c.rank(1) != 2 || c.rank(2) != 1 ||
      c.dims(1)[1].constant().value_or(4) != 4)
    return c.fail("images, regions of four numbers and batch indices are expected");
  Dims dims = {c.dims(1)[0], c.dims(0)[1]};
  for (StringRef name : {"output_height", "output_width"}) {
    int64_t size = c.attr(name, 1);
    if (size < 1 || size > INT32_MAX)
      return c.fail(name + " must be positive");
    dims.push_back(size);
  }
  return c.set(dims, c.element(0));
}

static LogicalResult nonMaxSuppression(RuleContext &c) {
  if (c.rank(0) != 3 || c.rank(1) != 3 || c.dims(0)[2].constant().value_or(4) != 4)
    return c.fail("boxes of four numbers per batch and scores per class are expected");
  for (unsigned i : {2u, 3u, 4u})
    if (c.in(i) && (c.rank(i) > 1 || (c.rank(i) == 1 && c.dims(i)[0].constant().value_or(1) > 1)))
      return c.fail("operand " + Twine(i) + " must be one number");
  if (int64_t form = c.attr("center_point_box", 0); form != 0 && form != 1)
    return c.fail("center_point_box is " + Twine(form));
  return c.set({c.analysis.fresh(), 3}, IntegerType::get(c.op->getContext(), 64));
}

static LogicalResult recurrent(RuleContext &c) {
  StringRef name = onnx::getOperator(c.op),
            direction = onnx::getString(c.op, "direction", "forward");
  if (c.rank(0) != 3 || c.rank(1) != 3 || c.rank(2) != 3)
    return c.fail("input and weights of rank 3 are expected");
  for (auto [operand, rank] : {std::pair<unsigned, int64_t>(3, 2), {4, 1}, {5, 3}, {6, 3}, {7, 2}})
    if (c.in(operand) && c.rank(operand) != rank)
      return c.fail("operand " + Twine(operand) + " of rank " + Twine(rank) + " is expected");
  if (!llvm::is_contained({"forward", "reverse", "bidirectional"}, direction))
    return c.fail("direction '" + direction + "' is not one of ONNX's");
  int64_t gates = name == "LSTM" ? 4 : name == "GRU" ? 3 : 1;
  int64_t directions = direction == "bidirectional" ? 2 : 1;
  const Dims &w = c.dims(1), &r = c.dims(2);
  SymbolicExpr hidden = r[2];
  if (!hidden.constant() && c.attr("hidden_size", 0) > 0)
    hidden = c.attr("hidden_size", 0);
  auto differ = [](const SymbolicExpr &a, const SymbolicExpr &b) {
    return a.constant() && b.constant() && a != b;
  };
  SymbolicExpr rows = c.analysis.mul(hidden, gates);
  if (differ(w[0], directions) || differ(r[0], directions) || differ(w[1], rows) ||
      differ(r[1], rows) || differ(w[2], c.dims(0)[2]) || differ(r[2], hidden))
    return c.fail("input and weights have the shapes " + describe(c.dims(0)) + ", " + describe(w) +
                  " and " + describe(r) + ", which do not fit together");
  bool batchFirst = c.attr("layout", 0) == 1;
  SymbolicExpr steps = c.dims(0)[batchFirst ? 1 : 0], batch = c.dims(0)[batchFirst ? 0 : 1];
  for (auto [i, result] : llvm::enumerate(c.op->getResults())) {
    if (isa<NoneType>(result.getType()))
      continue;
    Dims dims = {directions, batch, hidden};
    if (batchFirst)
      std::swap(dims[0], dims[1]);
    if (i == 0)
      dims.insert(dims.begin() + (batchFirst ? 1 : 0), steps);
    (void)c.set(dims, c.element(0));
  }
  return success();
}

void lowbit::addSpatialRules(ShapeRules &rules) {
  rules["AffineGrid"] = affineGrid;
  rules["Col2Im"] = col2im;
  rules["DeformConv"] = deformConv;
  rules["GRU"] = recurrent;
  rules["GridSample"] = gridSample;
  rules["LRN"] = lrn;
  rules["LSTM"] = recurrent;
  rules["MaxUnpool"] = maxUnpool;
  rules["NonMaxSuppression"] = nonMaxSuppression;
  rules["RNN"] = recurrent;
  rules["Resize"] = resize;
  rules["RoiAlign"] = roiAlign;
}
