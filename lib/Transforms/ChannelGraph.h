//===- ChannelGraph.h - which channels a positive factor moves through ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A channel of an activation may be multiplied by a factor s > 0 where everything that makes it can
// (weights, norms' gains, biases) and everything that reads it can divide by s. Relu(s x) = s
// Relu(x), so a Relu's result has the channels of its operand; a residual Add ties the channels of
// its operands; a Reshape of heads and an Expand that repeats them map channels to channels. A
// union-find over all channels of a block finds the classes that have to move together. Class 0 is
// fixed: what reads or makes it cannot take a factor (a Sigmoid, an input of the model, an op that
// is not known here).
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TRANSFORMS_CHANNELGRAPH_H
#define LOWBIT_LIB_TRANSFORMS_CHANNELGRAPH_H

#include "WeightLayout.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Support/LLVM.h"
#include "mlir/IR/Block.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include <cstdint>
#include <string>
#include <vector>

namespace lowbit {

/// The channels of one value: as many dims as it has, each of its size or 1 (the same along it).
struct ChannelPattern {
  SmallVector<int64_t, 4> shape;
  std::vector<int32_t> ids; ///< Row-major. Those of the graph's classes once `find` was asked.

  bool varies(size_t axis) const { return shape[axis] != 1; }
};

/// A constant matrix that makes the channels `out` from the channels `in`: its elements are
/// multiplied by the factor of their out channel and divided by that of their in channel.
struct ScaledWeight {
  Operation *op = nullptr;
  unsigned operand = 1;
  WeightLayout layout;
  std::vector<int32_t> in, out; ///< By position in the layout; `in` is empty for a table (Gather).

  /// The activations; null for a table.
  Value input() const { return in.empty() ? Value() : op->getOperand(0); }
};

/// A constant that is added to, or multiplied with, channels. It broadcasts against the patterns.
struct ScaledVector {
  Operation *op = nullptr;
  unsigned operand = 1;
  ChannelPattern out; ///< Its elements are multiplied by these channels' factors,
  ChannelPattern in;  ///< and divided by these. No ids: divided by nothing.
  enum class Role {
    Bias,
    Gain,
    Divisor
  } role = Role::Bias; ///< Of a divisor the factors change places.
};

/// An observer, whose statistics follow the factors.
struct ObservedChannels {
  ObserveOp op;
  std::vector<int32_t> ids; ///< Of all its channels.
};

class ChannelGraph {
public:
  /// Of the ops of one block; values that come from outside of it are fixed.
  explicit ChannelGraph(Block &block);

  static constexpr int32_t fixed = 0;
  /// The class of a channel: `fixed`, or one id that all channels of the class give.
  int32_t find(int32_t id) const {
    int32_t top = root(id);
    return isFixed[top] ? fixed : top;
  }
  size_t size() const { return parent.size(); }

  std::vector<ScaledWeight> weights;
  std::vector<ScaledVector> vectors;
  std::vector<ObservedChannels> observers;

  /// Why `value` with these channels is fixed: "'sigmoid' (Sigmoid) reads it".
  std::string whyFixed(Value value, int32_t id) const;

  /// The channels of `value` by position along `axis` (negative from the end); empty where they
  /// differ along other axes too.
  std::vector<int32_t> channelsAlong(Value value, int64_t axis) const;

private:
  friend class ChannelBuilder;
  int32_t root(int32_t id) const;
  mutable std::vector<int32_t> parent{fixed};
  std::vector<bool> isFixed{true};
  std::vector<Operation *> fixedBy{nullptr}; ///< By root: the op that is the reason.
  llvm::DenseMap<Value, ChannelPattern> patterns;
};

/// Multiplies the channels by `factors` (one per class id, read at `find(id)`; that of the fixed
/// class is not read): new constants for all weights and vectors, new statistics for the observers.
/// Returns how many constants changed.
int64_t applyFactors(ChannelGraph &graph, ArrayRef<double> factors);

} // namespace lowbit

#endif // LOWBIT_LIB_TRANSFORMS_CHANNELGRAPH_H
