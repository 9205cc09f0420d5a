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
static std::optional<Contents> entries(RuleContext &c, unsigned i) {
  if (c.in(i)->contents)
    return c.in(i)->contents;
  std::optional<int64_t> count =
      c.rank(i) == 1 ? c.dims(i)[0].constant() : std::optional<int64_t>();
  if (!count || *count > 64)
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
    std::optional<Contents> sizes = entries(c, 3);
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
  if (c.rank(2) != 1 || !c.dims(2)[0].isConstant(axes.size()))
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

void lowbit::addSpatialRules(ShapeRules &rules) { rules["Resize"] = resize; }
