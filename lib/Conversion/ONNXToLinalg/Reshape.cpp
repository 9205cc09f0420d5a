//===- Reshape.cpp - the same elements in another shape ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::onnx;

namespace {
/// Runs of dims on both sides that hold the same elements.
struct Grouping {
  SmallVector<ReassociationIndices> from, to;
};
} // namespace

/// Splits both shapes into the shortest runs with equal products; nothing where that cannot be proved.
static std::optional<Grouping> groupDims(ShapeAnalysis &shapes, const Dims &from, const Dims &to) {
  Grouping groups;
  size_t i = 0, j = 0;
  while (i < from.size() && j < to.size()) {
    ReassociationIndices left = {(int64_t)i}, right = {(int64_t)j};
    SymbolicExpr have = from[i++], want = to[j++];
    while (have != want) {
      std::optional<int64_t> a = have.constant(), b = want.constant();
      bool extendFrom;
      if (a && b)
        extendFrom = *a < *b;
      else if (SymbolicExpr::divideExactly(want, have))
        extendFrom = true;
      else if (SymbolicExpr::divideExactly(have, want))
        extendFrom = false;
      else
        return std::nullopt;
      if (extendFrom) {
        if (i == from.size())
          return std::nullopt;
        left.push_back(i);
        have = shapes.mul(have, from[i++]);
      } else {
        if (j == to.size())
          return std::nullopt;
        right.push_back(j);
        want = shapes.mul(want, to[j++]);
      }
    }
    groups.from.push_back(left);
    groups.to.push_back(right);
  }
  if (groups.from.empty())
    return std::nullopt;
  for (; i < from.size(); ++i) {
    if (!from[i].isConstant(1))
      return std::nullopt;
    groups.from.back().push_back(i);
  }
  for (; j < to.size(); ++j) {
    if (!to[j].isConstant(1))
      return std::nullopt;
    groups.to.back().push_back(j);
  }
  // One unknown dim at most in a run: its size then follows from the others.
  auto tooVague = [](ArrayRef<ReassociationIndices> runs, const Dims &dims) {
    return llvm::any_of(runs, [&](const ReassociationIndices &run) {
      return llvm::count_if(run, [&](int64_t d) { return !dims[d].constant(); }) > 1;
    });
  };
  if (tooVague(groups.from, from) || tooVague(groups.to, to))
    return std::nullopt;
  return groups;
}

static SmallVector<int64_t> staticShape(const Dims &dims) {
  SmallVector<int64_t> shape;
  for (const SymbolicExpr &dim : dims)
    shape.push_back(dim.constant().value_or(ShapedType::kDynamic));
  return shape;
}

Value Lowering::reshape(Value tensor, const Dims &from, const Dims &to,
                        ArrayRef<OpFoldResult> toSizes) {
  Type element = cast<RankedTensorType>(tensor.getType()).getElementType();
  // The tensor's type with all that is known of its dims.
  auto exact = RankedTensorType::get(staticShape(from), element);
  if (tensor.getType() != exact)
    tensor = tensor::CastOp::create(b, exact, tensor);
  auto target = RankedTensorType::get(staticShape(to), element);
  if (from == to)
    return tensor;
  auto allOnes = [](const Dims &dims) {
    return llvm::all_of(dims, [](const SymbolicExpr &dim) { return dim.isConstant(1); });
  };
  if (from.empty() && allOnes(to))
    return tensor::ExpandShapeOp::create(b, target, tensor, ArrayRef<ReassociationIndices>(),
                                         toSizes);
  if (to.empty() && allOnes(from))
    return tensor::CollapseShapeOp::create(b, target, tensor, ArrayRef<ReassociationIndices>());

  if (std::optional<Grouping> groups = groupDims(shapes, from, to)) {
    if (groups->from.size() < from.size()) {
      Dims runs;
      for (const ReassociationIndices &run : groups->from) {
        SymbolicExpr product(1);
        for (int64_t d : run)
          product = shapes.mul(product, from[d]);
        runs.push_back(product);
      }
      tensor = tensor::CollapseShapeOp::create(
          b, RankedTensorType::get(staticShape(runs), element), tensor, groups->from);
    }
    if (groups->to.size() < to.size())
      tensor = tensor::ExpandShapeOp::create(b, target, tensor, groups->to, toSizes);
    return tensor;
  }

  // Only the run can tell whether the sizes agree, or how the dims divide: a view whose sizes are given.
  OpFoldResult total = index(1), wanted = index(1);
  for (OpFoldResult size : sizes(tensor))
    total = mul(total, size);
  for (OpFoldResult size : toSizes)
    wanted = mul(wanted, size);
  if (shapes.product(from) != shapes.product(to))
    check(arith::CmpIOp::create(b, arith::CmpIPredicate::eq, value(total), value(wanted)),
          "the input cannot be reshaped to the shape asked for");
  if (to.empty()) {
    auto ones = RankedTensorType::get(SmallVector<int64_t>(from.size(), 1), element);
    tensor = tensor::CastOp::create(b, ones, tensor);
    return tensor::CollapseShapeOp::create(b, target, tensor, ArrayRef<ReassociationIndices>());
  }
  SmallVector<Value> shape;
  for (OpFoldResult size : toSizes)
    shape.push_back(value(size));
  return tensor::ReshapeOp::create(b, target, tensor, tensor::FromElementsOp::create(b, shape));
}
