//===- Reshape.cpp - the same elements in another shape ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
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

  // Only the run can tell whether the sizes agree: copy element by element, what is missing is 0.
  OpFoldResult total = index(1), wanted = index(1);
  Sizes own = sizes(tensor);
  for (OpFoldResult size : own)
    total = mul(total, size);
  for (OpFoldResult size : toSizes)
    wanted = mul(wanted, size);
  Value count = value(total);
  if (shapes.product(from) != shapes.product(to))
    check(arith::CmpIOp::create(b, arith::CmpIPredicate::eq, count, value(wanted)),
          "the input cannot be reshaped to the shape asked for");
  if (from.size() != 1) {
    SmallVector<ReassociationIndices> one;
    if (!from.empty())
      one.push_back(llvm::to_vector<2>(llvm::seq<int64_t>(from.size())));
    if (from.empty())
      tensor = tensor::ExpandShapeOp::create(b, RankedTensorType::get({1}, element), tensor, one,
                                             Sizes{index(1)});
    else
      tensor = tensor::CollapseShapeOp::create(b, tensor, one);
  }
  SmallVector<Value> strides(to.size());
  OpFoldResult stride = index(1);
  for (size_t i = to.size(); i-- > 0;) {
    strides[i] = value(stride);
    stride = mul(stride, toSizes[i]);
  }
  Value zero = value(index(0)), fallback = scalarInt(element, 0);
  return parallel({}, {}, toSizes, element, [&](OpBuilder &nested, Location loc, ValueRange) {
    Value position = zero;
    for (size_t i = 0; i < to.size(); ++i) {
      Value at = linalg::IndexOp::create(nested, loc, i);
      position = arith::AddIOp::create(nested, loc, position,
                                       arith::MulIOp::create(nested, loc, at, strides[i]));
    }
    Value inside =
        arith::CmpIOp::create(nested, loc, arith::CmpIPredicate::slt, position, count);
    auto guarded = scf::IfOp::create(
        nested, loc, inside,
        [&](OpBuilder &then, Location loc) {
          Value read = tensor::ExtractOp::create(then, loc, tensor, position);
          scf::YieldOp::create(then, loc, read);
        },
        [&](OpBuilder &otherwise, Location loc) {
          scf::YieldOp::create(otherwise, loc, fallback);
        });
    return guarded.getResult(0);
  });
}
