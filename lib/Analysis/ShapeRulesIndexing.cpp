//===- ShapeRulesIndexing.cpp - shapes of operators about shapes and indices -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ShapeRules.h"
#include "mlir/IR/Builders.h"

using namespace lowbit;

using Contents = std::vector<SymbolicExpr>;

static LogicalResult shape(RuleContext &c) {
  int64_t rank = c.rank(0), start = c.attr("start", 0), end = c.attr("end", rank);
  auto clamp = [&](int64_t at) {
    return std::min(std::max(at < 0 ? at + rank : at, INT64_C(0)), rank);
  };
  start = clamp(start), end = std::max(clamp(end), start);
  ArrayRef<SymbolicExpr> dims = ArrayRef<SymbolicExpr>(c.dims(0)).slice(start, end - start);
  return c.set({SymbolicExpr(dims.size())}, IntegerType::get(c.op->getContext(), 64),
               Contents(dims.begin(), dims.end()));
}

static LogicalResult size(RuleContext &c) {
  return c.set({}, IntegerType::get(c.op->getContext(), 64),
               Contents{c.analysis.product(c.dims(0))});
}

static LogicalResult constantOfShape(RuleContext &c) {
  Dims dims;
  if (auto value = c.op->getAttrOfType<ElementsAttr>("value"); value && value.getNumElements() != 1)
    return c.fail("value has " + Twine(value.getNumElements()) + " elements; one is expected");
  const SymbolicShape &shape = *c.in(0);
  if (shape.contents) {
    dims.assign(shape.contents->begin(), shape.contents->end());
  } else {
    std::optional<int64_t> rank =
        shape.dims.size() == 1 ? shape.dims[0].constant() : std::nullopt;
    if (!rank || *rank > 64)
      return c.fail("the length of the shape operand is not known, so neither is the rank");
    for (int64_t i = 0; i < *rank; ++i)
      dims.push_back(c.analysis.fresh());
  }
  Type element = cast<ShapedType>(c.op->getResult(0).getType()).getElementType();
  std::optional<Contents> contents;
  SymbolicShape result{dims, element, std::nullopt};
  if (std::optional<int64_t> count = result.elementCount();
      count && *count >= 0 && *count <= 256 && element.isIntOrIndex()) {
    int64_t fill = 0;
    if (auto value = c.op->getAttrOfType<DenseElementsAttr>("value"))
      fill = value.getValues<APInt>()[0].getSExtValue();
    contents.emplace(*count, SymbolicExpr(fill));
  }
  return c.set(dims, element, contents);
}

static LogicalResult range(RuleContext &c) {
  for (unsigned i : {0u, 1u, 2u})
    if (c.rank(i) > 1 || (c.rank(i) == 1 && !c.dims(i)[0].isConstant(1)))
      return c.fail("start, limit and delta must be scalars");
  ShapeAnalysis &a = c.analysis;
  SymbolicExpr count = a.fresh();
  std::optional<Contents> contents;
  if (c.in(0)->contents && c.in(1)->contents && c.in(2)->contents) {
    SymbolicExpr start = c.in(0)->contents->front(), limit = c.in(1)->contents->front();
    SymbolicExpr delta = c.in(2)->contents->front(), room = a.sub(limit, start);
    std::optional<int64_t> step = delta.constant();
    if (step == 0)
      return c.fail("delta is 0");
    if (step && room.constant()) {
      int64_t n = *step > 0 ? (*room.constant() + *step - 1) / *step
                            : (*room.constant() + *step + 1) / *step;
      count = std::max<int64_t>(n, 0);
    } else {
      count = step == 1 && start.isConstant(0) ? limit : a.opaque("range", {start, limit, delta});
    }
    if (std::optional<int64_t> n = count.constant(); n && *n <= 256) {
      contents.emplace();
      for (int64_t i = 0; i < *n; ++i)
        contents->push_back(a.add(start, a.mul(delta, i)));
    }
  }
  return c.set({count}, c.element(0), contents);
}

static LogicalResult gather(RuleContext &c) {
  FailureOr<int64_t> axis = c.axis(c.attr("axis", 0), c.rank(0));
  if (failed(axis))
    return failure();
  ArrayRef<SymbolicExpr> data = c.dims(0);
  Dims dims(data.take_front(*axis));
  dims.append(c.dims(1));
  dims.append(data.drop_front(*axis + 1).begin(), data.end());
  std::optional<Contents> contents;
  std::optional<SmallVector<int64_t>> indices = c.constants(1);
  if (c.in(0)->contents && c.rank(0) == 1 && indices) {
    contents.emplace();
    int64_t size = c.in(0)->contents->size();
    for (int64_t index : *indices) {
      if (index < -size || index >= size)
        return c.fail("index " + Twine(index) + " is out of range for a dim of " + Twine(size));
      contents->push_back((*c.in(0)->contents)[index < 0 ? index + size : index]);
    }
  }
  return c.set(dims, c.element(0), contents);
}

static LogicalResult gatherElements(RuleContext &c) {
  if (failed(c.axis(c.attr("axis", 0), c.rank(0))))
    return failure();
  if (c.rank(0) != c.rank(1))
    return c.fail("indices of shape " + describe(c.dims(1)) + " must have the rank of the data " +
                  describe(c.dims(0)));
  return c.set(c.dims(1), c.element(0));
}

static LogicalResult gatherND(RuleContext &c) {
  int64_t batch = c.attr("batch_dims", 0), r = c.rank(0), q = c.rank(1);
  std::optional<int64_t> depth = q ? c.dims(1)[q - 1].constant() : std::nullopt;
  if (!depth || batch < 0 || batch >= std::min(q, r) || *depth < 1 || *depth > r - batch)
    return c.fail("indices of shape " + describe(c.dims(1)) + " with batch_dims = " + Twine(batch) +
                  " do not fit data of shape " + describe(c.dims(0)));
  Dims dims(c.dims(1).begin(), c.dims(1).end() - 1);
  dims.append(c.dims(0).begin() + batch + *depth, c.dims(0).end());
  return c.set(dims, c.element(0));
}

void lowbit::addIndexingRules(ShapeRules &rules) {
  rules["ConstantOfShape"] = constantOfShape;
  rules["Gather"] = gather;
  rules["GatherElements"] = gatherElements;
  rules["GatherND"] = gatherND;
  rules["Range"] = range;
  rules["Shape"] = shape;
  rules["Size"] = size;
}
