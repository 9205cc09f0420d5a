//===- CacheFlow.h - a decoder's caches and what writes them ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_ANALYSIS_CACHEFLOW_H
#define LOWBIT_ANALYSIS_CACHEFLOW_H

#include "lowbit/Support/LLVM.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include <optional>
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

  Value present() const { return write->getResult(result); }
  /// `type`, whose last dimension has the past's length.
  RankedTensorType withRowLength(RankedTensorType type) const {
    SmallVector<int64_t> shape(type.getShape());
    shape.back() = cast<RankedTensorType>(past.getType()).getShape().back();
    return type.clone(shape);
  }
  /// The type of the present cache, its last dimension as that of the past.
  RankedTensorType presentType() const {
    return withRowLength(cast<RankedTensorType>(present().getType()));
  }
  /// What the file calls the past and the present; empty where it is not said.
  std::string pastName() const;
  std::string presentName() const;
  /// Bytes that one token of one sequence takes in the float cache, and in one of i8 with a f32
  /// scale per row; nothing where only the run knows.
  struct TokenBytes {
    int64_t real, integer;
  };
  std::optional<TokenBytes> bytesPerToken() const;
};

/// The caches of a model in the float or the qdq form, told by where values flow, in the order of
/// the inputs. `nearMisses` gets one line for each input that flows to an output likewise and
/// cannot be held in integers by rows.
std::vector<CacheFlow> findCaches(func::FuncOp entry, std::vector<std::string> &nearMisses);

} // namespace lowbit

#endif // LOWBIT_ANALYSIS_CACHEFLOW_H
