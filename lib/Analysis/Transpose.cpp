//===- Transpose.cpp - ops that only permute dims ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/Transpose.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"

using namespace lowbit;

std::optional<SmallVector<int64_t>> lowbit::asTranspose(Operation *op) {
  if (auto transpose = dyn_cast_or_null<linalg::TransposeOp>(op))
    if (transpose.hasPureTensorSemantics())
      return SmallVector<int64_t>(transpose.getPermutation());
  auto generic = dyn_cast_or_null<linalg::GenericOp>(op);
  if (!generic || generic.getNumDpsInputs() != 1 || generic.getNumDpsInits() != 1 ||
      !generic.hasPureTensorSemantics() || generic.getNumReductionLoops() ||
      generic.getBlock()->getTerminator()->getOperand(0) != generic.getBlock()->getArgument(0))
    return std::nullopt;
  AffineMap in = generic.getIndexingMapsArray()[0], out = generic.getIndexingMapsArray()[1];
  if (!in.isPermutation() || !out.isIdentity())
    return std::nullopt;
  SmallVector<int64_t> permutation(in.getNumResults());
  for (auto [dim, expr] : llvm::enumerate(in.getResults()))
    permutation[cast<AffineDimExpr>(expr).getPosition()] = dim;
  return permutation;
}
