//===- ScheduleTensors.cpp - tensors on the way to a CPU kernel ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Schedule.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::cpu;

Value cpu::emptyLike(OpBuilder &b, Location loc, ArrayRef<OpFoldResult> sizes, Type element) {
  return tensor::EmptyOp::create(b, loc, sizes, element);
}

Value cpu::flipSign(OpBuilder &b, Location loc, Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  Value init = emptyLike(b, loc, tensor::getMixedSizes(b, loc, value), type.getElementType());
  AffineMap id = b.getMultiDimIdentityMap(type.getRank());
  SmallVector<utils::IteratorType> loops(type.getRank(), utils::IteratorType::parallel);
  return linalg::GenericOp::create(b, loc, type, value, init, ArrayRef<AffineMap>{id, id}, loops,
                                   [](OpBuilder &nested, Location l, ValueRange args) {
                                     Value bit = arith::ConstantIntOp::create(nested, l, -128, 8);
                                     Value flipped = arith::XOrIOp::create(nested, l, args[0], bit);
                                     linalg::YieldOp::create(nested, l, flipped);
                                   })
      .getResult(0);
}

Value cpu::transpose(OpBuilder &b, Location loc, Value value, ArrayRef<int64_t> permutation) {
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, value), permuted;
  for (int64_t d : permutation)
    permuted.push_back(sizes[d]);
  Value init =
      emptyLike(b, loc, permuted, cast<RankedTensorType>(value.getType()).getElementType());
  return linalg::TransposeOp::create(b, loc, value, init, permutation)->getResult(0);
}

Value cpu::pad(OpBuilder &b, Location loc, Value value, ArrayRef<int64_t> low,
               ArrayRef<int64_t> high, Value filler) {
  if (llvm::all_of(low, [](int64_t p) { return p == 0; }) &&
      llvm::all_of(high, [](int64_t p) { return p == 0; }))
    return value;
  SmallVector<OpFoldResult> lows, highs;
  for (int64_t p : low)
    lows.push_back(b.getIndexAttr(p));
  for (int64_t p : high)
    highs.push_back(b.getIndexAttr(p));
  return tensor::PadOp::create(b, loc, Type(), value, lows, highs, filler).getResult();
}

int64_t cpu::pickVectors(int64_t n, bool even) {
  int64_t vectors = std::min<int64_t>(4, (n + 15) / 16);
  if (vectors == 3)
    vectors = (n + 15) / 16 == 3 ? 2 : 4;
  return even ? std::max<int64_t>(vectors == 1 ? 2 : vectors, 2) : vectors;
}

int64_t cpu::pickRows(int64_t vectors, int64_t rows, int64_t registers) {
  int64_t most = (vectors == 4 ? 6 : vectors == 2 ? 12 : 16) / registers;
  if (!ShapedType::isDynamic(rows))
    for (int64_t mr = most; mr >= most / 2; --mr)
      if (rows % mr == 0)
        return mr;
  return most;
}

Value cpu::collapseRows(OpBuilder &b, Location loc, Value value) {
  int64_t rank = cast<RankedTensorType>(value.getType()).getRank();
  if (rank == 2)
    return value;
  if (rank == 1) {
    auto type = cast<RankedTensorType>(value.getType());
    auto wide = RankedTensorType::get({1, type.getDimSize(0)}, type.getElementType());
    return tensor::ExpandShapeOp::create(b, loc, wide, value,
                                         ArrayRef<ReassociationIndices>{{0, 1}});
  }
  ReassociationIndices rows;
  for (int64_t d = 0; d + 1 < rank; ++d)
    rows.push_back(d);
  return tensor::CollapseShapeOp::create(b, loc, value,
                                         ArrayRef<ReassociationIndices>{rows, {rank - 1}});
}

Value cpu::expandRows(OpBuilder &b, Location loc, Value value, Value like) {
  auto likeType = cast<RankedTensorType>(like.getType()),
       type = cast<RankedTensorType>(value.getType());
  int64_t rank = likeType.getRank();
  if (rank == 2)
    return value;
  if (rank == 1)
    return tensor::CollapseShapeOp::create(b, loc, value, ArrayRef<ReassociationIndices>{{0, 1}});
  ReassociationIndices rows;
  SmallVector<int64_t> shape(likeType.getShape().drop_back());
  for (int64_t d = 0; d + 1 < rank; ++d)
    rows.push_back(d);
  shape.push_back(type.getDimSize(1));
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, like);
  sizes.back() = b.getIndexAttr(type.getDimSize(1));
  return tensor::ExpandShapeOp::create(b, loc, RankedTensorType::get(shape, type.getElementType()),
                                       value, ArrayRef<ReassociationIndices>{rows, {rank - 1}},
                                       sizes);
}
