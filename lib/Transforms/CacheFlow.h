//===- CacheFlow.h - a decoder's caches and what writes them ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_TRANSFORMS_CACHEFLOW_H
#define LOWBIT_LIB_TRANSFORMS_CACHEFLOW_H

#include "lowbit/Support/LLVM.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include <string>
#include <vector>

namespace lowbit {

/// A cache of keys or values, [B, ..., D]: an input that grows along `axis` by the rows of this
/// run's tokens, which the graph reads and gives back.
struct CacheFlow {
  BlockArgument past;
  /// Concat of the past and new rows; TensorScatter of new rows into the past; Attention, which has
  /// a past among its operands.
  Operation *write = nullptr;
  unsigned result = 0;      ///< Of `write`: the present cache.
  Operation *pad = nullptr; ///< The Pad that makes room in the past for a TensorScatter, if any.
  int64_t axis = 0;         ///< Tokens.
  unsigned returned = 0;    ///< The first operand of the return that is the present cache.

  Value present() const { return write->getResult(result); }
  /// `type`, whose last dimension has the past's length.
  RankedTensorType withRowLength(RankedTensorType type) const {
    SmallVector<int64_t> shape(type.getShape());
    shape.back() = cast<RankedTensorType>(past.getType()).getShape().back();
    return type.clone(shape);
  }
  RankedTensorType presentType() const {
    return withRowLength(cast<RankedTensorType>(present().getType()));
  }
};

/// The caches of a model in the float or the qdq form, told by where values flow, in the order of
/// the inputs. `nearMisses` gets one line for each input that flows to an output likewise and
/// cannot be held in integers by rows.
std::vector<CacheFlow> findCaches(func::FuncOp entry, std::vector<std::string> &nearMisses);

} // namespace lowbit

#endif // LOWBIT_LIB_TRANSFORMS_CACHEFLOW_H
