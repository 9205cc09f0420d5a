//===- CacheFlow.cpp - a decoder's caches and what writes them ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Analysis/CacheFlow.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "lowbit/Support/ConstantData.h"
#include "llvm/ADT/DenseSet.h"

using namespace lowbit;
using onnx::getOperator;

/// The pads of a Pad without axes, where they are known: of constants and Concats of them.
static bool collectPads(Value value, SmallVectorImpl<std::optional<int64_t>> &pads) {
  if (std::optional<ConstantData> data = ConstantData::get(value)) {
    for (int64_t pad : data->toInts())
      pads.push_back(pad);
    return true;
  }
  Operation *op = value.getDefiningOp();
  if (op && getOperator(op) == "Concat")
    return llvm::all_of(op->getOperands(), [&](Value part) { return collectPads(part, pads); });
  auto type = dyn_cast<RankedTensorType>(value.getType());
  if (!type || !type.hasStaticShape())
    return false;
  pads.append(type.getNumElements(), std::nullopt);
  return true;
}

/// Whether `op` is a Pad that appends zeros along `axis` alone.
static bool appendsRows(Operation *op, int64_t axis, int64_t rank) {
  if (getOperator(op) != "Pad" || onnx::getString(op, "mode", "constant") != "constant" ||
      onnx::getOperand(op, 2) || onnx::getOperand(op, 3))
    return false;
  SmallVector<std::optional<int64_t>> pads;
  if (!collectPads(op->getOperand(1), pads) || int64_t(pads.size()) != 2 * rank)
    return false;
  for (auto [i, pad] : llvm::enumerate(pads))
    if (int64_t(i) != rank + axis && pad != 0)
      return false;
  return true;
}

/// The dimension that a Concat or TensorScatter grows a tensor of `rank` along.
static int64_t growingAxis(Operation *op, int64_t rank) {
  int64_t axis = onnx::getInt(op, "axis", -2);
  return axis < 0 ? axis + rank : axis;
}

/// How `use` of the past writes a cache; `write` is null where it does not.
static CacheFlow followUse(OpOperand &use, BlockArgument past, int64_t rank) {
  Operation *op = use.getOwner();
  StringRef name = getOperator(op);
  CacheFlow flow;
  flow.past = past;
  if (name == "Attention" && (use.getOperandNumber() == 4 || use.getOperandNumber() == 5)) {
    unsigned result = use.getOperandNumber() - 3;
    if (rank == 4 && result < op->getNumResults()) {
      flow.write = op;
      flow.result = result;
      flow.axis = 2;
    }
    return flow;
  }
  if (name == "Pad" && use.getOperandNumber() == 0 && op->getResult(0).hasOneUse()) {
    OpOperand &next = *op->getResult(0).use_begin();
    if (getOperator(next.getOwner()) == "TensorScatter" && next.getOperandNumber() == 0 &&
        appendsRows(op, growingAxis(next.getOwner(), rank), rank)) {
      flow.pad = op;
      flow.write = next.getOwner();
    }
  } else if (name == "Concat" || (name == "TensorScatter" && use.getOperandNumber() == 0)) {
    flow.write = op;
  }
  if (flow.write)
    flow.axis = growingAxis(flow.write, rank);
  return flow;
}

/// Why rows of the cache cannot have a scale each; empty where they can.
static std::string whyNot(const CacheFlow &flow, RankedTensorType type) {
  int64_t rank = type.getRank();
  auto present = dyn_cast<RankedTensorType>(flow.present().getType());
  if (!present || present.getRank() != rank)
    return "the rank of its output is not known";
  if (flow.axis == rank - 1)
    return "it grows along its last dimension, so a token is no row of it";
  if (flow.axis < 1)
    return "it grows along its first dimension";
  if (type.isDynamicDim(rank - 1))
    return "the size of its last dimension is not known before the run";
  if (getOperator(flow.write) == "Concat" && llvm::count(flow.write->getOperands(), flow.past) != 1)
    return "it is concatenated with itself";
  if (getOperator(flow.write) != "Attention")
    return "";
  auto fresh = dyn_cast<RankedTensorType>(flow.write->getOperand(flow.result).getType());
  if (!fresh || (fresh.getRank() != 3 && fresh.getRank() != 4))
    return "the rank of the new keys or values is not known";
  if (fresh.getRank() == 3 && type.isDynamicDim(1))
    return "its number of heads is not known before the run";
  return "";
}

std::vector<CacheFlow> lowbit::findCaches(func::FuncOp entry,
                                          std::vector<std::string> &nearMisses) {
  std::vector<CacheFlow> caches;
  Operation *end = entry.front().getTerminator();
  llvm::DenseSet<Value> taken;
  for (BlockArgument past : entry.getArguments()) {
    auto type = dyn_cast<RankedTensorType>(past.getType());
    if (!type || type.getRank() < 2 || !isa<FloatType>(type.getElementType()) ||
        type.getElementType().isF64())
      continue;
    for (OpOperand &use : past.getUses()) {
      CacheFlow flow = followUse(use, past, type.getRank());
      if (!flow.write || flow.write->getBlock() != &entry.front() || taken.contains(flow.present()))
        continue;
      // The attention of which it is a result reads it.
      bool isRead = getOperator(flow.write) == "Attention" ||
                    llvm::any_of(flow.present().getUsers(), [&](Operation *user) {
                      return user != end && getOperator(user) != "Shape";
                    });
      if (!isRead || !llvm::is_contained(end->getOperands(), flow.present()))
        continue;
      taken.insert(flow.present());
      if (std::string why = whyNot(flow, type); !why.empty()) {
        nearMisses.push_back("input '" + flow.pastName() + "' cannot be held in i8: " + why);
        break;
      }
      caches.push_back(flow);
      break;
    }
  }
  return caches;
}

static std::string nameOf(StringAttr name) { return name ? name.str() : ""; }

std::string CacheFlow::pastName() const {
  auto entry = cast<func::FuncOp>(past.getOwner()->getParentOp());
  return nameOf(entry.getArgAttrOfType<StringAttr>(past.getArgNumber(), "onnx.name"));
}

std::string CacheFlow::presentName() const {
  auto entry = cast<func::FuncOp>(past.getOwner()->getParentOp());
  for (OpOperand &use : present().getUses())
    if (use.getOwner() == entry.front().getTerminator())
      return nameOf(entry.getResultAttrOfType<StringAttr>(use.getOperandNumber(), "onnx.name"));
  return "";
}

std::optional<CacheFlow::TokenBytes> CacheFlow::bytesPerToken() const {
  auto type = cast<RankedTensorType>(past.getType());
  int64_t rows = 1, length = type.getShape().back();
  for (int64_t dim = 1; dim < type.getRank() - 1; ++dim) {
    if (dim == axis)
      continue;
    if (type.isDynamicDim(dim))
      return std::nullopt;
    rows *= type.getDimSize(dim);
  }
  return TokenBytes{rows * length * int64_t(type.getElementTypeBitWidth()) / 8,
                    rows * (length + int64_t(sizeof(float)))};
}
