//===- ShapeRulesMovement.cpp - shapes of operators that rearrange data -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ShapeRules.h"
#include "lowbit/Support/ConstantData.h"

using namespace lowbit;

using Contents = std::vector<SymbolicExpr>;

/// How many entries a rank-1 operand has, where that is known.
static std::optional<int64_t> length(RuleContext &c, unsigned i) {
  if (!c.in(i) || c.rank(i) != 1)
    return std::nullopt;
  return c.dims(i)[0].constant();
}

/// The entries of a shape-like operand; fresh symbols where they are not tracked, nothing where not even their
/// number is known.
static std::optional<Contents> entries(RuleContext &c, unsigned i) {
  if (c.in(i)->contents && c.rank(i) == 1)
    return c.in(i)->contents;
  std::optional<int64_t> count = length(c, i);
  if (!count || *count > 64)
    return std::nullopt;
  Contents symbols;
  for (int64_t k = 0; k < *count; ++k)
    symbols.push_back(c.analysis.fresh());
  return symbols;
}

/// A result whose axes, `operand`, only the run knows: rank `rank` and `each` dims more per axis.
static LogicalResult unknownDims(RuleContext &c, unsigned operand, int64_t rank, int64_t each) {
  std::optional<int64_t> count = length(c, operand);
  if (!count || rank + each * *count < 0 || *count > 64)
    return c.fail("the number of axes is not known or too big, so the rank cannot be told");
  Dims dims;
  for (int64_t i = 0; i < rank + each * *count; ++i)
    dims.push_back(c.analysis.fresh());
  return c.set(dims, c.element(0));
}

static LogicalResult reshape(RuleContext &c) {
  std::optional<Contents> shape = entries(c, 1);
  if (!shape)
    return c.fail("the length of the shape operand is not known, so neither is the rank");
  bool allowZero = c.attr("allowzero", 0);
  const Dims &from = c.dims(0);
  Dims dims;
  std::optional<size_t> inferred;
  for (auto [index, entry] : llvm::enumerate(*shape)) {
    if (entry.isConstant(-1)) {
      if (inferred)
        return c.fail("the shape has two entries of -1");
      inferred = index;
      dims.push_back(1);
    } else if (entry.isConstant(0) && !allowZero) {
      if (index >= from.size())
        return c.fail("the shape copies dim " + Twine(index) + " of an input of shape " +
                      describe(from));
      dims.push_back(from[index]);
    } else {
      dims.push_back(entry);
    }
  }
  SymbolicExpr total = c.analysis.product(from), rest = c.analysis.product(dims);
  if (inferred) {
    std::optional<int64_t> count = total.constant(), known = rest.constant();
    if (known == 0 || (count && known && *count % *known))
      return c.fail("shape " + describe(from) + " cannot be reshaped to " + describe(dims) +
                    " with one dim inferred");
    dims[*inferred] = c.analysis.floorDiv(total, rest);
  } else if (total.constant() && rest.constant() && total != rest) {
    return c.fail("shape " + describe(from) + " cannot be reshaped to " + describe(dims));
  } else if (total != rest) {
    // A symbol that may still be -1 or 0: where one entry alone is unknown, the element count says it.
    std::optional<size_t> unknown;
    for (size_t i = 0; i < dims.size(); ++i)
      if (!dims[i].constant())
        unknown = unknown ? dims.size() : i;
    SymbolicExpr others(1);
    for (size_t i = 0; i < dims.size(); ++i)
      if (i != unknown)
        others = c.analysis.mul(others, dims[i]);
    if (unknown && *unknown < dims.size())
      if (std::optional<SymbolicExpr> value = SymbolicExpr::divideExactly(total, others))
        dims[*unknown] = *value;
  }
  return c.set(dims, c.element(0), c.in(0)->contents);
}

static LogicalResult flatten(RuleContext &c) {
  int64_t rank = c.rank(0), axis = c.attr("axis", 1);
  if (axis < -rank || axis > rank)
    return c.fail("axis " + Twine(axis) + " is out of range for rank " + Twine(rank));
  axis += axis < 0 ? rank : 0;
  ArrayRef<SymbolicExpr> dims = c.dims(0);
  return c.set({c.analysis.product(dims.take_front(axis)), c.analysis.product(dims.drop_front(axis))},
               c.element(0));
}

static LogicalResult squeeze(RuleContext &c) {
  SmallVector<int64_t> axes;
  if (c.in(1)) {
    std::optional<SmallVector<int64_t>> given = c.constants(1);
    if (!given)
      return unknownDims(c, 1, c.rank(0), -1);
    FailureOr<SmallVector<int64_t>> normal = c.axes(*given, c.rank(0));
    if (failed(normal))
      return failure();
    axes = *normal;
    for (int64_t axis : axes)
      if (c.dims(0)[axis].constant() && !c.dims(0)[axis].isConstant(1))
        return c.fail("dim " + Twine(axis) + " of " + describe(c.dims(0)) + " is not 1");
  } else {
    for (auto [index, dim] : llvm::enumerate(c.dims(0))) {
      if (!dim.constant())
        return c.fail("no axes are given and the input has dynamic dims: the rank cannot be told");
      if (dim.isConstant(1))
        axes.push_back(index);
    }
  }
  Dims dims;
  for (auto [index, dim] : llvm::enumerate(c.dims(0)))
    if (!llvm::is_contained(axes, (int64_t)index))
      dims.push_back(dim);
  return c.set(dims, c.element(0), c.in(0)->contents);
}

static LogicalResult unsqueeze(RuleContext &c) {
  std::optional<SmallVector<int64_t>> given = c.constants(1);
  if (!given)
    return unknownDims(c, 1, c.rank(0), 1);
  int64_t rank = c.rank(0) + given->size();
  FailureOr<SmallVector<int64_t>> axes = c.axes(*given, rank);
  if (failed(axes))
    return failure();
  Dims dims;
  size_t next = 0;
  for (int64_t i = 0; i < rank; ++i)
    dims.push_back(llvm::is_contained(*axes, i) ? SymbolicExpr(1) : c.dims(0)[next++]);
  return c.set(dims, c.element(0), c.in(0)->contents);
}

static LogicalResult transpose(RuleContext &c) {
  int64_t rank = c.rank(0);
  SmallVector<int64_t> perm = onnx::getInts(c.op, "perm");
  if (!onnx::hasInts(c.op, "perm"))
    perm = llvm::to_vector(llvm::reverse(llvm::seq<int64_t>(rank)));
  FailureOr<SmallVector<int64_t>> axes = c.axes(perm, rank);
  if (failed(axes))
    return failure();
  if ((int64_t)axes->size() != rank)
    return c.fail("perm has " + Twine(axes->size()) + " entries; the input's rank is " +
                  Twine(rank));
  Dims dims;
  for (int64_t axis : *axes)
    dims.push_back(c.dims(0)[axis]);
  return c.set(dims, c.element(0), rank < 2 ? c.in(0)->contents : std::nullopt);
}

static LogicalResult concat(RuleContext &c) {
  FailureOr<int64_t> axis = c.axis(c.attr("axis", 0), c.rank(0));
  if (failed(axis))
    return failure();
  Dims dims = c.dims(0);
  std::optional<Contents> contents = c.in(0)->contents;
  for (unsigned i = 1; i < c.op->getNumOperands(); ++i) {
    if (c.rank(i) != c.rank(0) || c.element(i) != c.element(0))
      return c.fail("operand " + Twine(i) + " has another rank or element type than operand 0");
    for (int64_t d = 0; d < c.rank(0); ++d) {
      const SymbolicExpr &other = c.dims(i)[d];
      if (d == *axis)
        dims[d] = c.analysis.add(dims[d], other);
      else if (dims[d].constant() && other.constant() && dims[d] != other)
        return c.fail("operand " + Twine(i) + " of shape " + describe(c.dims(i)) +
                      " does not fit operand 0 of shape " + describe(c.dims(0)));
      else if (other.constant())
        dims[d] = other;
    }
    if (contents && c.in(i)->contents && c.rank(0) == 1)
      llvm::append_range(*contents, *c.in(i)->contents);
    else
      contents.reset();
  }
  return c.set(dims, c.element(0), contents);
}

static LogicalResult split(RuleContext &c) {
  FailureOr<int64_t> axis = c.axis(c.attr("axis", 0), c.rank(0));
  if (failed(axis))
    return failure();
  int64_t parts = c.op->getNumResults();
  SymbolicExpr size = c.dims(0)[*axis];
  Contents sizes;
  if (c.in(1)) {
    std::optional<Contents> given = entries(c, 1);
    if (!given || (int64_t)given->size() != parts)
      return c.fail("the number of sizes and the number of outputs differ");
    sizes = *given;
    SymbolicExpr total;
    for (const SymbolicExpr &part : sizes)
      total = c.analysis.add(total, part);
    if (total.constant() && size.constant() && total != size)
      return c.fail("the sizes add up to " + Twine(*total.constant()) + "; the dim has " +
                    Twine(*size.constant()));
  } else {
    if (c.attr("num_outputs", parts) != parts)
      return c.fail("num_outputs differs from the number of outputs");
    SymbolicExpr each = c.analysis.floorDiv(c.analysis.add(size, parts - 1), parts), left = size;
    for (int64_t i = 0; i + 1 < parts; ++i) {
      sizes.push_back(each);
      left = c.analysis.sub(left, each);
    }
    sizes.push_back(left);
  }
  int64_t offset = 0;
  for (int64_t i = 0; i < parts; ++i) {
    Dims dims = c.dims(0);
    dims[*axis] = sizes[i];
    std::optional<Contents> contents;
    if (c.in(0)->contents && c.rank(0) == 1 && sizes[i].constant() && offset >= 0) {
      int64_t count = *sizes[i].constant();
      if (count >= 0 && offset + count <= (int64_t)c.in(0)->contents->size())
        contents.emplace(c.in(0)->contents->begin() + offset,
                         c.in(0)->contents->begin() + offset + count);
      offset += count;
    } else {
      offset = INT64_MIN;
    }
    (void)c.set(dims, c.element(0), contents);
  }
  return success();
}

/// Where a slice starts or ends on a dim of `size`, from an entry that may count from the end.
static SymbolicExpr clampedBound(ShapeAnalysis &a, const SymbolicExpr &bound,
                                 const SymbolicExpr &size, bool &known) {
  std::optional<int64_t> value = bound.constant(), limit = size.constant();
  if (value && limit) {
    int64_t at = *value < 0 ? (*value < -*limit ? 0 : *value + *limit) : *value;
    return std::min(at, *limit);
  }
  if (value && *value >= INT32_MAX)
    return size;
  if (value == 0 || bound == size)
    return bound;
  known = false;
  return bound;
}

static LogicalResult slice(RuleContext &c) {
  int64_t rank = c.rank(0);
  std::optional<Contents> starts = entries(c, 1), ends = entries(c, 2), steps;
  std::optional<SmallVector<int64_t>> axes;
  if (!starts || !ends || starts->size() != ends->size())
    return c.fail("starts and ends are not two lists of one known length");
  if (c.in(3)) {
    axes = c.constants(3);
    if (!axes)
      return unknownDims(c, 3, rank, 0);
  } else {
    axes = llvm::to_vector(llvm::seq<int64_t>(starts->size()));
  }
  FailureOr<SmallVector<int64_t>> normal = c.axes(*axes, rank);
  if (failed(normal))
    return failure();
  if (c.in(4))
    steps = entries(c, 4);
  else
    steps = Contents(starts->size(), SymbolicExpr(1));
  if (!steps || steps->size() != starts->size() || normal->size() != starts->size())
    return c.fail("starts, ends, axes and steps have different lengths");
  ShapeAnalysis &a = c.analysis;
  Dims dims = c.dims(0);
  std::optional<Contents> contents;
  for (auto [i, axis] : llvm::enumerate(*normal)) {
    std::optional<int64_t> step = (*steps)[i].constant(), size = dims[axis].constant();
    std::optional<int64_t> start = (*starts)[i].constant(), end = (*ends)[i].constant();
    if (step == 0)
      return c.fail("step 0");
    SymbolicExpr key[] = {(*starts)[i], (*ends)[i], (*steps)[i], dims[axis]};
    SymbolicExpr result = a.opaque("slice", key);
    int64_t first = 0, count = 0;
    if (step && *step > 0) {
      bool known = true;
      SymbolicExpr from = clampedBound(a, (*starts)[i], dims[axis], known);
      SymbolicExpr to = clampedBound(a, (*ends)[i], dims[axis], known);
      SymbolicExpr room = a.sub(to, from);
      if (room.constant() && known) {
        result = *room.constant() <= 0 ? 0 : (*room.constant() - 1) / *step + 1;
        first = from.constant().value_or(0);
      } else if (known && *step == 1 && from.isConstant(0)) {
        result = room; // 0 up to the dim's own size.
      }
    } else if (step && size && start && end && *step != INT64_MIN) {
      int64_t from = *start < 0 ? (*start < -*size ? -1 : *start + *size) : std::min(*start, *size - 1);
      int64_t to = *end < 0 ? (*end < -*size ? -1 : *end + *size) : std::min(*end, *size - 1);
      result = from <= to ? 0 : (from - to - 1) / -*step + 1;
      first = from;
    }
    count = result.constant().value_or(-1);
    if (rank == 1 && c.in(0)->contents && count >= 0 && step) {
      contents.emplace();
      for (int64_t k = 0; k < count; ++k)
        if (int64_t at = first + k * *step; at >= 0 && at < (int64_t)c.in(0)->contents->size())
          contents->push_back((*c.in(0)->contents)[at]);
      if ((int64_t)contents->size() != count)
        contents.reset();
    }
    dims[axis] = result;
  }
  return c.set(dims, c.element(0), contents);
}

static LogicalResult pad(RuleContext &c) {
  std::optional<Contents> pads = entries(c, 1);
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(c.rank(0)));
  if (c.in(3)) {
    std::optional<SmallVector<int64_t>> given = c.constants(3);
    if (!given) {
      std::optional<int64_t> count = length(c, 3);
      if (count && pads && (int64_t)pads->size() != 2 * *count)
        return c.fail("pads needs " + Twine(2 * *count) + " entries");
      return unknownDims(c, 3, c.rank(0), 0);
    }
    FailureOr<SmallVector<int64_t>> normal = c.axes(*given, c.rank(0));
    if (failed(normal))
      return failure();
    axes = *normal;
  }
  if (!pads || pads->size() != 2 * axes.size())
    return c.fail("pads needs " + Twine(2 * axes.size()) + " entries");
  Dims dims = c.dims(0);
  for (auto [i, axis] : llvm::enumerate(axes))
    dims[axis] = c.analysis.add(dims[axis], c.analysis.add((*pads)[i], (*pads)[axes.size() + i]));
  return c.set(dims, c.element(0));
}

static LogicalResult expand(RuleContext &c) {
  std::optional<Contents> shape = entries(c, 1);
  if (!shape)
    return c.fail("the length of the shape operand is not known, so neither is the rank");
  FailureOr<Dims> dims = c.broadcast(c.dims(0), Dims(shape->begin(), shape->end()));
  if (failed(dims))
    return failure();
  std::optional<Contents> contents;
  SymbolicShape result{*dims, c.element(0), std::nullopt};
  if (c.in(0)->contents && c.in(0)->contents->size() == 1)
    if (std::optional<int64_t> count = result.elementCount(); count && *count <= 256)
      contents.emplace(*count, c.in(0)->contents->front());
  return c.set(*dims, c.element(0), contents);
}

static LogicalResult tile(RuleContext &c) {
  std::optional<Contents> repeats = entries(c, 1);
  if (!repeats || (int64_t)repeats->size() != c.rank(0))
    return c.fail("repeats needs one entry per dim of " + describe(c.dims(0)));
  Dims dims = c.dims(0);
  for (auto [dim, times] : llvm::zip(dims, *repeats))
    dim = c.analysis.mul(dim, times);
  return c.set(dims, c.element(0));
}

static LogicalResult depthToSpace(RuleContext &c) {
  int64_t block = c.attr("blocksize", 1);
  if (c.rank(0) != 4 || block < 1 || block > INT16_MAX)
    return c.fail("an input of rank 4 and a positive blocksize are expected");
  Dims d = c.dims(0);
  if (d[1].constant() && *d[1].constant() % (block * block))
    return c.fail("the channels of " + describe(d) + " are no multiple of blocksize squared");
  ShapeAnalysis &a = c.analysis;
  return c.set({d[0], a.floorDiv(d[1], block * block), a.mul(d[2], block), a.mul(d[3], block)},
               c.element(0));
}

static LogicalResult spaceToDepth(RuleContext &c) {
  int64_t block = c.attr("blocksize", 1);
  if (c.rank(0) != 4 || block < 1 || block > INT16_MAX)
    return c.fail("an input of rank 4 and a positive blocksize are expected");
  Dims d = c.dims(0);
  for (unsigned i : {2u, 3u})
    if (d[i].constant() && *d[i].constant() % block)
      return c.fail("the last dims of " + describe(d) + " are no multiples of blocksize");
  ShapeAnalysis &a = c.analysis;
  return c.set({d[0], a.mul(d[1], block * block), a.floorDiv(d[2], block), a.floorDiv(d[3], block)},
               c.element(0));
}

static LogicalResult centerCropPad(RuleContext &c) {
  std::optional<Contents> shape = entries(c, 1);
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(c.rank(0)));
  if (onnx::hasInts(c.op, "axes"))
    axes = onnx::getInts(c.op, "axes");
  FailureOr<SmallVector<int64_t>> normal = c.axes(axes, c.rank(0));
  if (failed(normal))
    return failure();
  if (!shape || shape->size() != axes.size())
    return c.fail("shape needs " + Twine(axes.size()) + " entries");
  Dims dims = c.dims(0);
  for (auto [axis, size] : llvm::zip(*normal, *shape))
    dims[axis] = size;
  return c.set(dims, c.element(0));
}

void lowbit::addMovementRules(ShapeRules &rules) {
  rules["CenterCropPad"] = centerCropPad;
  rules["Concat"] = concat;
  rules["DepthToSpace"] = depthToSpace;
  rules["Expand"] = expand;
  rules["Flatten"] = flatten;
  rules["Pad"] = pad;
  rules["Reshape"] = reshape;
  rules["Slice"] = slice;
  rules["SpaceToDepth"] = spaceToDepth;
  rules["Split"] = split;
  rules["Squeeze"] = squeeze;
  rules["Tile"] = tile;
  rules["Transpose"] = transpose;
  rules["Unsqueeze"] = unsqueeze;
}
