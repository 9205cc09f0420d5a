//===- ChannelBuilder.h - the channels of each op of a block ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TRANSFORMS_CHANNELBUILDER_H
#define LOWBIT_LIB_TRANSFORMS_CHANNELBUILDER_H

#include "ChannelGraph.h"
#include "mlir/IR/BuiltinTypes.h"
#include "llvm/ADT/StringMap.h"
#include <optional>

namespace lowbit {
/// Goes through a block and says of each op what its results' channels are.
class ChannelBuilder {
public:
  ChannelBuilder(ChannelGraph &graph, Block &block) : graph(graph), block(block) {}
  void run();

private:
  using Handler = bool (ChannelBuilder::*)(Operation *);
  static const llvm::StringMap<Handler> &handlers();

  // Each returns false where this instance is like an op that is not known.
  /// A layer whose channels are along these axes of its input and its result.
  bool addLayer(Operation *op, size_t inAxis, size_t outAxis);
  bool visitUnary(Operation *op);
  bool visitSpatial(Operation *op);
  bool visitClip(Operation *op);
  bool visitPRelu(Operation *op);
  bool visitConv(Operation *op);
  bool visitMatMul(Operation *op);
  bool visitGemm(Operation *op);
  bool visitGather(Operation *op);
  bool visitSum(Operation *op);
  bool visitMul(Operation *op);
  bool visitNorm(Operation *op);
  bool visitReduce(Operation *op);
  bool visitReshape(Operation *op);
  bool visitTranspose(Operation *op);
  bool visitExpand(Operation *op);
  bool visitConcat(Operation *op);
  bool visitSplit(Operation *op);
  bool visitSlice(Operation *op);
  bool visitPad(Operation *op);
  void visitUnknown(Operation *op);

  static RankedTensorType typeOf(Value value) {
    return dyn_cast<RankedTensorType>(value.getType());
  }
  int32_t fresh() {
    graph.parent.push_back(graph.parent.size());
    graph.isFixed.push_back(false);
    graph.fixedBy.push_back(nullptr);
    return graph.parent.back();
  }
  /// A pattern of `rank` dims that varies along `axis` alone, with fresh channels.
  ChannelPattern freshAlong(size_t rank, size_t axis, int64_t count);
  /// Of a value that is not followed.
  static ChannelPattern fixedPattern(Value value);
  ChannelPattern get(Value value);
  void set(Value value, ChannelPattern pattern) { graph.patterns[value] = std::move(pattern); }
  void tie(int32_t a, int32_t b);
  void fix(Value value);
  bool isFixed(const ChannelPattern &pattern) const;
  /// Ties channels that differ along dims for which `keep` is false, and gives a pattern without
  /// them.
  ChannelPattern collapse(const ChannelPattern &pattern, llvm::function_ref<bool(size_t)> keep);
  /// Both with the dims they broadcast to, their channels tied.
  std::optional<ChannelPattern> tieBroadcast(const ChannelPattern &a, const ChannelPattern &b);
  /// An f32 constant that may be copied: no other layer's matrix.
  bool isScalable(Value value);
  void addVector(Operation *op, unsigned operand, ScaledVector::Role role, ChannelPattern out,
                 ChannelPattern in = {}) {
    graph.vectors.push_back({op, operand, std::move(out), std::move(in), role});
  }
  /// Products of two values: decided when all else is known.
  bool settle(bool force);

  ChannelGraph &graph;
  Block &block;
  SmallVector<Operation *> products;
  Operation *current = nullptr;
};
} // namespace lowbit

#endif // LOWBIT_LIB_TRANSFORMS_CHANNELBUILDER_H
