//===- ScheduleFloatSums.cpp - launches for activations with a range of the run ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "IntegerParameters.h"
#include "PackWeights.h"
#include "Schedule.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;
using namespace lowbit::cpu;

/// [..., 1] or rank 0 to one dimension.
static Value flat(OpBuilder &b, Location loc, Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  if (type.getRank() == 1)
    return value;
  if (type.getRank() == 0)
    return tensor::ExpandShapeOp::create(b, loc, type.clone({1}), value,
                                         ArrayRef<ReassociationIndices>());
  ReassociationIndices all = llvm::to_vector(llvm::seq<int64_t>(0, type.getRank()));
  return tensor::CollapseShapeOp::create(b, loc, value, ArrayRef<ReassociationIndices>{all});
}

/// 8-bit zero points [rows] as i32 ones of the unsigned input.
static Value unsignedZeros(OpBuilder &b, Location loc, Value zeros, bool isSigned) {
  Type i32 = b.getI32Type();
  Value init = emptyLike(b, loc, tensor::getMixedSizes(b, loc, zeros), i32);
  SmallVector<AffineMap> maps(2, b.getMultiDimIdentityMap(1));
  return linalg::GenericOp::create(
             b, loc, init.getType(), zeros, init, maps, utils::IteratorType::parallel,
             [&](OpBuilder &nested, Location l, ValueRange args) {
               Value wide;
               if (isSigned) {
                 wide = arith::ExtSIOp::create(nested, l, i32, args[0]);
                 wide = arith::AddIOp::create(nested, l, wide,
                                              arith::ConstantIntOp::create(nested, l, 128, 32));
               } else {
                 wide = arith::ExtUIOp::create(nested, l, i32, args[0]);
               }
               linalg::YieldOp::create(nested, l, wide);
             })
      .getResult(0);
}

namespace {
/// Weights less their zero points, and what belongs to their groups.
struct GroupedWeights {
  int64_t n, k, group, groups;
  std::vector<int8_t> weights;     // [n, k]
  std::vector<float> scales;       // [n, groups]
  std::vector<int32_t> columnSums; // [n, groups]
};
} // namespace

static std::optional<GroupedWeights> readWeights(LinearOp op, std::string &why) {
  auto weights = ConstantData::get(op.getWeight()), scale = ConstantData::get(op.getWeightScale()),
       zero = op.getWeightZero() ? ConstantData::get(op.getWeightZero()) : std::nullopt;
  if (!weights || !scale || (op.getWeightZero() && !zero)) {
    why = "the weight or its parameters are not constants";
    return std::nullopt;
  }
  GroupedWeights result;
  result.n = weights->getType().getDimSize(0);
  result.k = weights->getType().getDimSize(1);
  int64_t group = op.getGroup();
  result.group = group && group < result.k ? group : std::max<int64_t>(result.k, 1);
  result.groups = (result.k + result.group - 1) / result.group;
  if (result.groups > 1 && group % 4) {
    why = "groups of " + std::to_string(group) + ", which four do not divide";
    return std::nullopt;
  }
  std::vector<int64_t> values = weights->toInts(), zeros(1, 0);
  if (zero)
    zeros = zero->toInts();
  std::vector<float> scales = scale->toFloats();
  auto at = [&](size_t count, int64_t row, int64_t g) {
    return count == 1 ? 0 : group ? row * result.groups + g : row;
  };
  result.weights.resize(values.size());
  result.scales.resize(result.n * result.groups);
  result.columnSums.resize(result.n * result.groups);
  for (int64_t row = 0; row < result.n; ++row)
    for (int64_t i = 0; i < result.k; ++i) {
      int64_t g = i / result.group, index = row * result.groups + g;
      int64_t difference = values[row * result.k + i] - zeros[at(zeros.size(), row, g)];
      if (difference < -128 || difference > 127) {
        why = "weights that are no i8 less their zero points";
        return std::nullopt;
      }
      result.weights[row * result.k + i] = int8_t(difference);
      result.scales[index] = scales[at(scales.size(), row, g)];
      result.columnSums[index] += int32_t(difference);
    }
  return result;
}

LogicalResult cpu::scheduleFloatSums(LinearOp op, KernelTable &kernels, std::string &why) {
  Type element = cast<RankedTensorType>(op.getInput().getType()).getElementType();
  auto bias = op.getBias() ? ConstantData::get(op.getBias()) : std::nullopt;
  why = element.getIntOrFloatBitWidth() != 8 ? "activations are not 8 bits wide"
        : op.getBias() && !bias              ? "the bias is not a constant"
                                             : "";
  if (!why.empty())
    return failure();
  std::optional<GroupedWeights> w = readWeights(op, why);
  if (!w)
    return failure();
  OpBuilder b(op);
  Location loc = op.getLoc();
  bool isSigned = !element.isUnsignedInteger();
  bool perRow = cast<RankedTensorType>(op.getInputScale().getType()).getRank() > 0;
  int64_t vectors = pickVectors(w->n, /*even=*/false);

  Value input = castElement(b, loc, op.getInput(), b.getI8Type());
  if (isSigned)
    input = flipSign(b, loc, input);
  // Reads go by four bytes.
  Value rows = pad(b, loc, collapseRows(b, loc, input), {0, 0}, {0, (4 - w->k % 4) % 4},
                   arith::ConstantIntOp::create(b, loc, 0, 8));
  int64_t count = cast<RankedTensorType>(rows.getType()).getDimSize(0);
  Value zeros = castElement(b, loc, op.getInputZero(), b.getI8Type());
  FlatSymbolRefAttr kernel = kernels.get(b, loc, "cpu.qgemm",
                                         {{"conv", 0},
                                          {"n", w->n},
                                          {"length", w->k},
                                          {"runs_h", 1},
                                          {"runs_w", 1},
                                          {"nr", vectors},
                                          {"mr", pickRows(vectors, count, w->groups > 1 ? 2 : 1)},
                                          {"chunk", kChunk},
                                          {"group_steps", (w->group + 3) / 4},
                                          {"per_row", perRow},
                                          {"bias", bool(bias)},
                                          {"relu", op.getRelu()},
                                          {"output_zero", 0},
                                          {"output_min", 0},
                                          {"output_max", 0}});
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, rows);
  sizes[1] = b.getIndexAttr(w->n);
  Value init = emptyLike(b, loc, sizes, b.getF32Type());
  std::vector<float> biases = bias ? bias->toFloats() : std::vector<float>(w->n, 0.0f);
  SmallVector<Value> inputs = {
      rows,
      vectorConstant(b, loc, packQGemm(w->weights, w->n, 1, w->k, vectors), b.getI8Type(), "w"),
      vectorConstant(b, loc, packParameters<float>(biases, w->n, 1, vectors, 0), b.getF32Type(),
                     "b"),
      vectorConstant(b, loc, packParameters<float>(w->scales, w->n, w->groups, vectors, 0),
                     b.getF32Type(), "s"),
      vectorConstant(b, loc, packParameters<int32_t>(w->columnSums, w->n, w->groups, vectors, 0),
                     b.getI32Type(), "sums"),
      flat(b, loc, op.getInputScale()),
      unsignedZeros(b, loc, flat(b, loc, zeros), isSigned)};
  auto launch =
      rt::LaunchOp::create(b, loc, init.getType(), kernel, inputs, init, op.getLayerAttr());
  Value result = expandRows(b, loc, launch.getResult(0), op.getInput());
  if (result.getType() != op.getType())
    result = tensor::CastOp::create(b, loc, op.getType(), result);
  op.replaceAllUsesWith(result);
  op.erase();
  return success();
}

LogicalResult cpu::scheduleDynamicQuantize(DynamicQuantizeOp op, KernelTable &kernels,
                                           std::string &why) {
  auto type = cast<RankedTensorType>(op.getInput().getType());
  Type element = cast<RankedTensorType>(op.getOutput().getType()).getElementType();
  why = !op.getPerToken()                       ? "one range for the whole tensor"
        : element.getIntOrFloatBitWidth() != 8  ? "results are not 8 bits wide"
        : type.isDynamicDim(type.getRank() - 1) ? "the length of a row is dynamic"
                                                : "";
  if (!why.empty())
    return failure();
  OpBuilder b(op);
  Location loc = op.getLoc();
  int64_t k = type.getShape().back();
  Value rows = collapseRows(b, loc, op.getInput());
  FlatSymbolRefAttr kernel = kernels.get(b, loc, "cpu.rowquant",
                                         {{"k", k},
                                          {"signed", !element.isUnsignedInteger()},
                                          {"symmetric", op.getSymmetric()},
                                          {"chunk", 8}});
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, rows);
  SmallVector<Value> inits = {emptyLike(b, loc, sizes, b.getI8Type()),
                              emptyLike(b, loc, sizes[0], b.getF32Type()),
                              emptyLike(b, loc, sizes[0], b.getI8Type())};
  auto launch = rt::LaunchOp::create(b, loc, TypeRange(ValueRange(inits)), kernel, ValueRange(rows),
                                     inits, b.getStringAttr(""));
  Value q = expandRows(b, loc, launch.getResult(0), op.getInput());
  // [rows] as [..., 1]: one column, and the leading dimensions of the input.
  auto columns = [&](Value value) {
    auto flatType = cast<RankedTensorType>(value.getType());
    SmallVector<OpFoldResult> extents = {sizes[0], b.getIndexAttr(1)};
    Value wide =
        tensor::ExpandShapeOp::create(b, loc, flatType.clone({flatType.getDimSize(0), 1}), value,
                                      ArrayRef<ReassociationIndices>{{0, 1}}, extents);
    return expandRows(b, loc, wide, op.getInput());
  };
  SmallVector<Value> results = {q, columns(launch.getResult(1)), columns(launch.getResult(2))};
  for (auto [old, value] : llvm::zip_equal(op->getResults(), results)) {
    auto wanted = cast<RankedTensorType>(old.getType());
    auto own = wanted.clone(cast<RankedTensorType>(value.getType()).getElementType());
    if (value.getType() != own)
      value = tensor::CastOp::create(b, loc, own, value);
    old.replaceAllUsesWith(castElement(b, loc, value, wanted.getElementType()));
  }
  op.erase();
  return success();
}
