//===- ScheduleCPUContractions.cpp - f32 products and convolutions become launches ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Contraction.h"
#include "KernelTable.h"
#include "PackWeights.h"
#include "lowbit/Analysis/Transpose.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Target/CPU/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Matchers.h"

namespace lowbit {
#define GEN_PASS_DEF_SCHEDULECPUCONTRACTIONS
#include "lowbit/Target/CPU/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;
using namespace lowbit::cpu;

namespace {
struct ScheduleCPUContractions
    : public lowbit::impl::ScheduleCPUContractionsBase<ScheduleCPUContractions> {
  void runOnOperation() override;

private:
  bool schedule(linalg::GenericOp op, const Contraction &contraction);
  bool schedule(linalg::GenericOp op, const ChannelsLastConv &conv);
  Value packed(OpBuilder &b, Location loc, Value weights, bool transposed, int64_t vectors);

  std::optional<KernelTable> kernels;
};
} // namespace

/// Floats per column block, in vectors of 16: the fewest columns past n, wide blocks if equal.
static int64_t pickVectors(int64_t n) {
  if (ShapedType::isDynamic(n))
    return 4;
  int64_t best = 4, leastCost = INT64_MAX;
  // Narrow blocks reload the rows of the other operand more often.
  for (auto [vectors, percent] : {std::pair<int64_t, int64_t>{4, 100}, {2, 106}, {1, 125}}) {
    int64_t cost = llvm::alignTo(n, 16 * vectors) * percent;
    if (cost < leastCost)
      leastCost = cost, best = vectors;
  }
  return best;
}

static constexpr int64_t kChunk = 96; // A multiple of 6 and 12.

static RankedTensorType typeOf(ArrayRef<OpFoldResult> sizes, Type element) {
  SmallVector<int64_t> shape;
  for (OpFoldResult size : sizes)
    shape.push_back(getConstantIntValue(size).value_or(ShapedType::kDynamic));
  return RankedTensorType::get(shape, element);
}

static OpFoldResult product(OpBuilder &b, Location loc, ArrayRef<OpFoldResult> sizes) {
  int64_t known = 1;
  Value rest;
  for (OpFoldResult size : sizes) {
    if (std::optional<int64_t> number = getConstantIntValue(size)) {
      known *= *number;
      continue;
    }
    Value value = cast<Value>(size);
    rest = rest ? Value(arith::MulIOp::create(b, loc, rest, value)) : value;
  }
  if (!rest)
    return b.getIndexAttr(known);
  if (known == 1)
    return rest;
  return Value(
      arith::MulIOp::create(b, loc, rest, arith::ConstantIndexOp::create(b, loc, known)));
}

/// The runs of equal numbers in `roles`, each a dim of the collapsed tensor.
static SmallVector<ReassociationIndices> runsOf(ArrayRef<int64_t> roles) {
  SmallVector<ReassociationIndices> runs;
  for (auto [dim, role] : llvm::enumerate(roles)) {
    if (dim == 0 || role != roles[dim - 1])
      runs.emplace_back();
    runs.back().push_back(dim);
  }
  return runs;
}

/// Which collapsed dim each of three roles is; the absent ones join the next one there is, or the
/// last.
static SmallVector<ReassociationIndices> rolesOf(ArrayRef<int64_t> roles) {
  SmallVector<ReassociationIndices> groups;
  int64_t next = 0;
  SmallVector<int64_t> present;
  for (int64_t role : roles)
    if (present.empty() || present.back() != role)
      present.push_back(role);
  for (auto [i, role] : llvm::enumerate(present)) {
    ReassociationIndices group;
    int64_t end = i + 1 == present.size() ? 3 : role + 1;
    for (; next < end; ++next)
      group.push_back(next);
    groups.push_back(group);
  }
  return groups;
}

/// `value` of rank r, dim d of role `roles[d]`, as a tensor of three dims.
static Value toMatrices(OpBuilder &b, Location loc, Value value, ArrayRef<int64_t> roles) {
  Type element = cast<RankedTensorType>(value.getType()).getElementType();
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, value);
  SmallVector<ReassociationIndices> runs = runsOf(roles);
  SmallVector<OpFoldResult> three(3, b.getIndexAttr(1));
  for (ReassociationIndices &run : runs) {
    SmallVector<OpFoldResult> factors;
    for (int64_t dim : run)
      factors.push_back(sizes[dim]);
    three[roles[run.front()]] = product(b, loc, factors);
  }
  if (runs.size() < roles.size())
    value = tensor::CollapseShapeOp::create(b, loc, value, runs);
  if (runs.size() < 3)
    value = tensor::ExpandShapeOp::create(b, loc, typeOf(three, element), value, rolesOf(roles),
                                          three);
  return value;
}

/// The inverse: [g, m, n] as a tensor of `sizes`.
static Value fromMatrices(OpBuilder &b, Location loc, Value value, ArrayRef<int64_t> roles,
                          ArrayRef<OpFoldResult> sizes) {
  Type element = cast<RankedTensorType>(value.getType()).getElementType();
  SmallVector<ReassociationIndices> runs = runsOf(roles);
  if (runs.size() < 3)
    value = tensor::CollapseShapeOp::create(b, loc, value, rolesOf(roles));
  if (runs.size() < roles.size())
    value = tensor::ExpandShapeOp::create(b, loc, typeOf(sizes, element), value, runs, sizes);
  return value;
}

static Value transpose(OpBuilder &b, Location loc, Value value, ArrayRef<int64_t> permutation) {
  if (llvm::equal(permutation, llvm::seq<int64_t>(0, permutation.size())))
    return value;
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, value), permuted;
  for (int64_t d : permutation)
    permuted.push_back(sizes[d]);
  Value init = tensor::EmptyOp::create(b, loc, permuted, b.getF32Type());
  return linalg::TransposeOp::create(b, loc, value, init, permutation)->getResult(0);
}

static bool hasEmptyDim(Value value) {
  return llvm::is_contained(cast<RankedTensorType>(value.getType()).getShape(), 0);
}

/// What the sums start from.
namespace {
struct Start {
  Value bias;  ///< A vector of one number per column; null for zeros.
  Value added; ///< What is added at the end where it is neither.
};
} // namespace

static Start startOf(linalg::GenericOp op, ArrayRef<unsigned> columns) {
  Value init = op.getDpsInits()[0];
  if (auto fill = init.getDefiningOp<linalg::FillOp>())
    if (matchPattern(fill.getInputs()[0], m_AnyZeroFloat()) ||
        matchPattern(fill.getInputs()[0], m_PosZeroFloat()))
      return {};
  auto spread = init.getDefiningOp<linalg::GenericOp>();
  AffineMap out = op.getIndexingMapsArray()[2];
  if (spread && columns.size() == 1 && spread.getNumDpsInputs() == 1 &&
      spread.getNumReductionLoops() == 0 && spread.getIndexingMapsArray()[1].isIdentity() &&
      spread.getBlock()->getTerminator()->getOperand(0) == spread.getBlock()->getArgument(0)) {
    AffineMap in = spread.getIndexingMapsArray()[0];
    AffineDimExpr dim(nullptr);
    if (in.getNumResults())
      dim = dyn_cast<AffineDimExpr>(in.getResults().back());
    bool unit = llvm::all_of(in.getResults().drop_back(dim ? 1 : 0), [](AffineExpr expr) {
      auto constant = dyn_cast<AffineConstantExpr>(expr);
      return constant && constant.getValue() == 0;
    });
    if (dim && unit && out.getResult(dim.getPosition()) == getAffineDimExpr(columns[0], op.getContext())) {
      Value bias = spread.getDpsInputs()[0];
      auto type = cast<RankedTensorType>(bias.getType());
      if (llvm::all_of(type.getShape().drop_back(), [](int64_t size) { return size == 1; }))
        return {bias, {}};
    }
  }
  return {{}, init};
}

static Value asVector(OpBuilder &b, Location loc, Value value) {
  int64_t rank = cast<RankedTensorType>(value.getType()).getRank();
  if (rank == 1)
    return value;
  ReassociationIndices all = llvm::to_vector(llvm::seq<int64_t>(0, rank));
  return tensor::CollapseShapeOp::create(b, loc, value, ArrayRef<ReassociationIndices>{all});
}

static StringAttr layerOf(linalg::GenericOp op) {
  if (auto name = dyn_cast<NameLoc>(op.getLoc()))
    return name.getName();
  return StringAttr::get(op.getContext(), "");
}

/// Replaces `op` by `result`, to which its initial values are still to be added where `start` says.
static void finish(OpBuilder &b, linalg::GenericOp op, Value result, const Start &start) {
  if (start.added) {
    Value init = tensor::EmptyOp::create(
        b, op.getLoc(), tensor::getMixedSizes(b, op.getLoc(), result), b.getF32Type());
    result = linalg::AddOp::create(b, op.getLoc(), ValueRange{result, start.added}, init).getResult(0);
  }
  auto type = cast<RankedTensorType>(op.getResult(0).getType());
  if (result.getType() != type)
    result = tensor::CastOp::create(b, op.getLoc(), type, result);
  op.getResult(0).replaceAllUsesWith(result);
  op.erase();
}

//===----------------------------------------------------------------------===//
// Weights
//===----------------------------------------------------------------------===//

/// Of three dims: constant weights are packed now, others by a kernel as soon as they are there.
Value ScheduleCPUContractions::packed(OpBuilder &b, Location loc, Value weights, bool transposed,
                                      int64_t vectors) {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointAfterValue(weights); // In front of a loop that uses them many times.
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, weights);
  OpFoldResult n = sizes[transposed ? 1 : 2], blocks;
  int64_t width = 16 * vectors;
  if (std::optional<int64_t> known = getConstantIntValue(n)) {
    blocks = b.getIndexAttr(llvm::divideCeil(*known, width));
  } else {
    Value most = arith::ConstantIndexOp::create(b, loc, width - 1);
    Value divisor = arith::ConstantIndexOp::create(b, loc, width);
    Value rounded = arith::AddIOp::create(b, loc, cast<Value>(n), most);
    blocks = Value(arith::DivUIOp::create(b, loc, rounded, divisor));
  }
  OpFoldResult size =
      product(b, loc, {sizes[0], blocks, sizes[transposed ? 2 : 1], b.getIndexAttr(width)});
  Value init = tensor::EmptyOp::create(b, loc, ArrayRef<OpFoldResult>{size}, b.getF32Type());
  FlatSymbolRefAttr kernel =
      kernels->get(b, loc, "cpu.fpack", {{"transposed", transposed}, {"nr", vectors}});
  return rt::LaunchOp::create(b, loc, init.getType(), kernel, weights, init, b.getStringAttr(""))
      .getResult(0);
}

static Value packedConstant(OpBuilder &b, Location loc, ArrayRef<char> bytes, int64_t matrices,
                            int64_t k, int64_t n, int64_t vectors) {
  ArrayRef<float> floats(reinterpret_cast<const float *>(bytes.data()),
                         bytes.size() / sizeof(float));
  std::vector<float> values = packFGemm(floats, matrices, k, n, vectors);
  auto type = RankedTensorType::get({(int64_t)values.size()}, b.getF32Type());
  return arith::ConstantOp::create(b, loc, makeConstant(type, values, "w"));
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

bool ScheduleCPUContractions::schedule(linalg::GenericOp op, const Contraction &c) {
  Value a = op.getDpsInputs()[0], weights = op.getDpsInputs()[1], initial = op.getDpsInits()[0];
  if (hasEmptyDim(a) || hasEmptyDim(weights) || hasEmptyDim(initial))
    return false;
  OpBuilder b(op);
  Location loc = op.getLoc();
  auto outType = cast<RankedTensorType>(op.getResult(0).getType());
  auto sizeOf = [&](ArrayRef<unsigned> loops) {
    int64_t size = 1;
    for (auto [dim, expr] : llvm::enumerate(op.getIndexingMapsArray()[2].getResults()))
      if (llvm::is_contained(loops, cast<AffineDimExpr>(expr).getPosition()))
        size = size < 0 || outType.isDynamicDim(dim) ? ShapedType::kDynamic
                                                     : size * outType.getDimSize(dim);
    return size;
  };
  int64_t n = sizeOf(c.n), vectors = pickVectors(n);
  std::optional<ConstantData> constant = ConstantData::get(weights);
  if (!constant && sizeOf(c.m) == 1)
    return false; // To pack costs more than to multiply.

  ArrayRef<unsigned> noLoops;
  Value packedWeights;
  if (constant) {
    MatrixOperand order = Contraction::arrange(op, 1, {c.g, c.k, c.n});
    ArrayRef<int64_t> shape = constant->getType().getShape();
    int64_t matrices = 1, k = 1;
    for (auto [dim, role] : llvm::zip(order.order, order.roles))
      (role == 0 ? matrices : k) *= role < 2 ? shape[dim] : 1;
    bool inOrder = llvm::equal(order.order, llvm::seq<int64_t>(0, shape.size()));
    std::vector<char> moved;
    if (!inOrder)
      moved = permuted(constant->bytes(), shape, order.order, sizeof(float));
    packedWeights = packedConstant(b, loc, inOrder ? constant->bytes() : ArrayRef<char>(moved),
                                   matrices, k, n, vectors);
  } else {
    MatrixOperand order = Contraction::arrange(op, 1, {c.g, c.k, c.n});
    MatrixOperand turned = Contraction::arrange(op, 1, {c.g, c.n, c.k});
    // What only moves elements in front of the product is not done twice.
    if (std::optional<SmallVector<int64_t>> source = asTranspose(weights.getDefiningOp())) {
      weights = weights.getDefiningOp()->getOperand(0);
      for (MatrixOperand *operand : {&order, &turned})
        for (int64_t &dim : operand->order)
          dim = (*source)[dim];
    }
    bool transposed = llvm::equal(turned.order, llvm::seq<int64_t>(0, turned.order.size()));
    MatrixOperand &taken = transposed ? turned : order;
    OpBuilder early(op);
    early.setInsertionPointAfterValue(weights);
    Value matrices = toMatrices(early, loc, transpose(early, loc, weights, taken.order), taken.roles);
    packedWeights = packed(early, loc, matrices, transposed, vectors);
  }

  MatrixOperand rows = Contraction::arrange(op, 0, {c.sharedA ? noLoops : ArrayRef(c.g), c.m, c.k});
  Value input = toMatrices(b, loc, transpose(b, loc, a, rows.order), rows.roles);
  Start start = startOf(op, c.n);
  SmallVector<int64_t> roles(c.g.size(), 0);
  roles.append(c.m.size(), 1);
  roles.append(c.n.size(), 2);
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, initial), three(3, b.getIndexAttr(1));
  for (int64_t role : {0, 1, 2}) {
    SmallVector<OpFoldResult> factors;
    for (auto [dim, of] : llvm::enumerate(roles))
      if (of == role)
        factors.push_back(sizes[dim]);
    three[role] = product(b, loc, factors);
  }
  Value init = tensor::EmptyOp::create(b, loc, three, b.getF32Type());
  SmallVector<Value> inputs = {input, packedWeights};
  if (start.bias)
    inputs.push_back(asVector(b, loc, start.bias));
  bool partial = ShapedType::isDynamic(n) || n % (16 * vectors) != 0;
  FlatSymbolRefAttr kernel = kernels->get(b, loc, "cpu.fgemm",
                                          {{"conv", 0},
                                           {"nr", vectors},
                                           {"chunk", kChunk},
                                           {"partial", partial},
                                           {"bias", bool(start.bias)},
                                           {"shared", c.sharedA}});
  auto launch = rt::LaunchOp::create(b, loc, init.getType(), kernel, inputs, init, layerOf(op));
  Value result = launch.getResult(0);
  if (!roles.empty()) {
    result = fromMatrices(b, loc, result, roles, sizes);
  } else {
    result = tensor::CollapseShapeOp::create(b, loc, result, ArrayRef<ReassociationIndices>{});
  }
  finish(b, op, result, start);
  return true;
}

//===----------------------------------------------------------------------===//
// Convolutions
//===----------------------------------------------------------------------===//

bool ScheduleCPUContractions::schedule(linalg::GenericOp op, const ChannelsLastConv &conv) {
  Value input = op.getDpsInputs()[0], weights = op.getDpsInputs()[1], initial = op.getDpsInits()[0];
  auto weightType = cast<RankedTensorType>(weights.getType());
  if (!weightType.hasStaticShape() || hasEmptyDim(input) || hasEmptyDim(weights))
    return false;
  OpBuilder b(op);
  Location loc = op.getLoc();
  ArrayRef<int64_t> shape = weightType.getShape();
  int64_t kh = shape[0], kw = shape[1], channels = shape[2], n = shape.back();
  int64_t vectors = conv.depthwise ? 1 : pickVectors(n), k = kh * kw * channels;
  bool apart = conv.depthwise || (conv.dilations[1] != 1 && kw > 1);
  std::vector<int64_t> geometry = {kh,
                                   apart ? kw : 1,
                                   apart ? channels : kw * channels,
                                   conv.strides[0],
                                   conv.strides[1],
                                   conv.dilations[0],
                                   conv.dilations[1]};
  Start start = startOf(op, {conv.depthwise ? 5u : 6u});
  SmallVector<std::pair<StringRef, int64_t>> schedule = {
      {"partial", n % (16 * vectors) != 0}, {"bias", bool(start.bias)}};
  SmallVector<Value> inputs = {input};
  if (conv.depthwise) {
    inputs.push_back(weights);
  } else {
    schedule.append({{"conv", 1}, {"nr", vectors}, {"chunk", kChunk}, {"shared", 0}});
    if (std::optional<ConstantData> constant = ConstantData::get(weights)) {
      inputs.push_back(packedConstant(b, loc, constant->bytes(), 1, k, n, vectors));
    } else {
      OpBuilder early(op);
      early.setInsertionPointAfterValue(weights);
      Value matrix = toMatrices(early, loc, weights, {1, 1, 1, 2});
      inputs.push_back(packed(early, loc, matrix, false, vectors));
    }
  }
  if (start.bias)
    inputs.push_back(asVector(b, loc, start.bias));
  auto geometryType = RankedTensorType::get({(int64_t)geometry.size()}, b.getI64Type());
  inputs.push_back(
      arith::ConstantOp::create(b, loc, makeConstant(geometryType, geometry, "geometry")));
  FlatSymbolRefAttr kernel =
      kernels->get(b, loc, conv.depthwise ? "cpu.fdepthwise" : "cpu.fgemm", schedule);
  Value init = tensor::EmptyOp::create(b, loc, tensor::getMixedSizes(b, loc, initial), b.getF32Type());
  auto launch = rt::LaunchOp::create(b, loc, init.getType(), kernel, inputs, init, layerOf(op));
  finish(b, op, launch.getResult(0), start);
  return true;
}

void ScheduleCPUContractions::runOnOperation() {
  kernels.emplace(getOperation());
  SmallVector<linalg::GenericOp> ops;
  getOperation().walk([&](linalg::GenericOp op) {
    if (isMultiplyAdd(op))
      ops.push_back(op);
  });
  for (linalg::GenericOp op : ops) {
    bool scheduled = false;
    if (std::optional<Contraction> contraction = Contraction::get(op))
      scheduled = schedule(op, *contraction);
    else if (std::optional<ChannelsLastConv> conv = ChannelsLastConv::get(op))
      scheduled = schedule(op, *conv);
    scheduled ? ++numScheduled : ++numLeft;
  }
}
