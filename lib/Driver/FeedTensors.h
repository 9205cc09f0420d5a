//===- FeedTensors.h - the tensors that a model is fed with -----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_DRIVER_FEEDTENSORS_H
#define LOWBIT_LIB_DRIVER_FEEDTENSORS_H

#include "lowbit-c/Runtime.h"
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include <vector>

namespace lowbit {

/// Visits the bytes of a tensor with any strides, in row-major order of its elements: each piece is
/// as long as the strides allow.
void visitPieces(const lowbit_tensor &tensor,
                 llvm::function_ref<void(llvm::ArrayRef<char> piece)> visit);

/// A row-major copy of a tensor. `view` describes it; its data pointer is not kept up when the
/// whole is copied.
struct OwnedTensor {
  std::vector<char> bytes;
  lowbit_tensor view;
};

OwnedTensor copyTensor(const lowbit_tensor &from);

} // namespace lowbit

#endif // LOWBIT_LIB_DRIVER_FEEDTENSORS_H
