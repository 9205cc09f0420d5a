//===- Contraction.cpp - what a linalg op multiplies ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Contraction.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace lowbit;
using namespace lowbit::cpu;
using utils::IteratorType;

bool cpu::isMultiplyAdd(linalg::GenericOp op) {
  if (!op.hasPureTensorSemantics() || op.getNumDpsInputs() != 2 || op.getNumDpsInits() != 1)
    return false;
  Block &body = *op.getBlock();
  for (BlockArgument argument : body.getArguments())
    if (!argument.getType().isF32())
      return false;
  Value a = body.getArgument(0), b = body.getArgument(1), sum = body.getArgument(2);
  auto add = body.getTerminator()->getOperand(0).getDefiningOp<arith::AddFOp>();
  if (!add || (add.getLhs() != sum && add.getRhs() != sum))
    return false;
  auto product =
      (add.getLhs() == sum ? add.getRhs() : add.getLhs()).getDefiningOp<arith::MulFOp>();
  return product && ((product.getLhs() == a && product.getRhs() == b) ||
                     (product.getLhs() == b && product.getRhs() == a));
}

/// The loop that walks each dim of an operand; -1 where the dim is always read at 0. Nothing where
/// a dim is read in another way, or a loop walks two.
static std::optional<SmallVector<int64_t>> loopsOf(AffineMap map) {
  SmallVector<int64_t> loops;
  for (AffineExpr expr : map.getResults()) {
    int64_t loop = -1;
    if (auto dim = dyn_cast<AffineDimExpr>(expr))
      loop = dim.getPosition();
    else if (auto constant = dyn_cast<AffineConstantExpr>(expr); !constant || constant.getValue())
      return std::nullopt;
    if (loop >= 0 && llvm::is_contained(loops, loop))
      return std::nullopt;
    loops.push_back(loop);
  }
  return loops;
}

static bool readsUnitDimsOnly(linalg::GenericOp op, unsigned input, ArrayRef<int64_t> loops) {
  auto type = cast<RankedTensorType>(op.getDpsInputs()[input].getType());
  for (auto [dim, loop] : llvm::enumerate(loops))
    if (loop < 0 && type.getDimSize(dim) != 1)
      return false;
  return true;
}

std::optional<Contraction> Contraction::get(linalg::GenericOp op) {
  SmallVector<AffineMap> maps = op.getIndexingMapsArray();
  auto a = loopsOf(maps[0]), b = loopsOf(maps[1]), out = loopsOf(maps[2]);
  if (!a || !b || !out || llvm::is_contained(*out, -1) || !readsUnitDimsOnly(op, 0, *a) ||
      !readsUnitDimsOnly(op, 1, *b))
    return std::nullopt;
  Contraction result;
  SmallVector<IteratorType> iterators = op.getIteratorTypesArray();
  for (unsigned loop = 0; loop < iterators.size(); ++loop) {
    bool inA = llvm::is_contained(*a, loop), inB = llvm::is_contained(*b, loop);
    bool inOut = llvm::is_contained(*out, loop);
    if (inOut == (iterators[loop] != IteratorType::parallel) || (!inOut && !(inA && inB)) ||
        !(inA || inB))
      return std::nullopt;
  }
  for (int64_t loop : *a)
    if (loop >= 0 && !llvm::is_contained(*out, loop))
      result.k.push_back(loop);
  if (result.k.empty())
    return std::nullopt;
  // Dims of the result: those of both or, before any m, of b alone; then of a alone; then of b.
  SmallVector<unsigned> ofBoth, ofB;
  for (int64_t loop : *out) {
    bool inA = llvm::is_contained(*a, loop), inB = llvm::is_contained(*b, loop);
    if (inA && inB) {
      if (!result.m.empty())
        return std::nullopt;
      ofBoth.push_back(loop);
    } else if (inA) {
      result.m.push_back(loop);
      if (!result.n.empty()) { // b alone came first.
        if (!ofB.empty())
          return std::nullopt;
        std::swap(ofB, result.n);
      }
    } else {
      result.n.push_back(loop);
    }
  }
  if (!ofBoth.empty() && !ofB.empty())
    return std::nullopt;
  // A loop of both after one of b alone would leave the order g, m, n.
  SmallVector<unsigned> order(ofBoth);
  llvm::append_range(order, ofB);
  result.g = order;
  result.sharedA = !ofB.empty();
  llvm::append_range(order, result.m);
  llvm::append_range(order, result.n);
  if (!llvm::equal(order, *out))
    return std::nullopt;
  return result;
}

MatrixOperand Contraction::arrange(linalg::GenericOp op, unsigned index,
                                   ArrayRef<ArrayRef<unsigned>> loops) {
  SmallVector<int64_t> dims = *loopsOf(op.getIndexingMapsArray()[index]);
  MatrixOperand result;
  auto pushUnits = [&](int64_t from, int64_t role) {
    for (int64_t d = from; d < (int64_t)dims.size() && dims[d] < 0; ++d) {
      result.order.push_back(d);
      result.roles.push_back(role);
    }
  };
  pushUnits(0, 0);
  for (auto [role, list] : llvm::enumerate(loops))
    for (unsigned loop : list) {
      auto found = llvm::find(dims, (int64_t)loop);
      if (found == dims.end())
        continue;
      result.order.push_back(found - dims.begin());
      result.roles.push_back(role);
      pushUnits(found - dims.begin() + 1, role);
    }
  return result;
}

/// expr = loops[0] · a + loops[1] · b with positive a and b.
static bool isWindow(AffineExpr expr, unsigned position, unsigned tap, int64_t &stride,
                     int64_t &dilation) {
  auto sum = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!sum || sum.getKind() != AffineExprKind::Add)
    return false;
  stride = dilation = 0;
  for (AffineExpr part : {sum.getLHS(), sum.getRHS()}) {
    int64_t factor = 1;
    if (auto product = dyn_cast<AffineBinaryOpExpr>(part)) {
      auto constant = dyn_cast<AffineConstantExpr>(product.getRHS());
      if (product.getKind() != AffineExprKind::Mul || !constant)
        return false;
      factor = constant.getValue();
      part = product.getLHS();
    }
    auto dim = dyn_cast<AffineDimExpr>(part);
    if (!dim || (dim.getPosition() != position && dim.getPosition() != tap))
      return false;
    (dim.getPosition() == position ? stride : dilation) = factor;
  }
  return stride > 0 && dilation > 0;
}

std::optional<ChannelsLastConv> ChannelsLastConv::get(linalg::GenericOp op) {
  // Loops b, y, x, i, j, then c and f, or f alone.
  ChannelsLastConv conv;
  conv.depthwise = op.getNumLoops() == 6;
  int64_t reductions = conv.depthwise ? 2 : 3, f = 3 + reductions;
  SmallVector<IteratorType> wanted(f + 1, IteratorType::parallel);
  for (int64_t tap = 3; tap < f; ++tap)
    wanted[tap] = IteratorType::reduction;
  if (!llvm::equal(op.getIteratorTypesArray(), wanted))
    return std::nullopt;
  auto is = [&](AffineMap map, ArrayRef<int64_t> loops) {
    auto found = loopsOf(map);
    return found && llvm::equal(*found, loops);
  };
  SmallVector<AffineMap> maps = op.getIndexingMapsArray();
  AffineMap in = maps[0];
  SmallVector<int64_t> taps = {3, 4, 5};
  if (!conv.depthwise)
    taps.push_back(6);
  if (!is(maps[1], taps) || !is(maps[2], {0, 1, 2, f}) || in.getNumResults() != 4 ||
      in.getResult(0) != getAffineDimExpr(0, op.getContext()) ||
      in.getResult(3) != getAffineDimExpr(5, op.getContext()) ||
      !isWindow(in.getResult(1), 1, 3, conv.strides[0], conv.dilations[0]) ||
      !isWindow(in.getResult(2), 2, 4, conv.strides[1], conv.dilations[1]))
    return std::nullopt;
  return conv;
}
