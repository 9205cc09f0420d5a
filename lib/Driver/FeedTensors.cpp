//===- FeedTensors.cpp - the tensors that a model is fed with ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "FeedTensors.h"

using namespace lowbit;

/// The elements of the dimensions before `end`, whose own are pieces of `bytes`.
static void visitOuter(const lowbit_tensor &tensor, const char *data, int32_t dim, int32_t end,
                       size_t bytes, llvm::function_ref<void(llvm::ArrayRef<char>)> visit) {
  if (dim == end)
    return visit(llvm::ArrayRef(data, bytes));
  int64_t stride = tensor.strides[dim] * int64_t(lowbit_dtype_size(tensor.dtype));
  for (int64_t i = 0; i < tensor.shape[dim]; ++i)
    visitOuter(tensor, data + i * stride, dim + 1, end, bytes, visit);
}

void lowbit::visitPieces(const lowbit_tensor &tensor,
                         llvm::function_ref<void(llvm::ArrayRef<char>)> visit) {
  int64_t count = 1;
  int32_t end = tensor.rank;
  for (; end > 0 && tensor.strides[end - 1] == count; --end)
    count *= tensor.shape[end - 1];
  visitOuter(tensor, static_cast<const char *>(tensor.data), 0, end,
             size_t(count) * lowbit_dtype_size(tensor.dtype), visit);
}

OwnedTensor lowbit::copyTensor(const lowbit_tensor &from) {
  OwnedTensor copy;
  copy.view = from;
  int64_t count = 1;
  for (int32_t d = from.rank; d-- > 0;) {
    copy.view.strides[d] = count;
    count *= from.shape[d];
  }
  copy.bytes.reserve(size_t(count) * lowbit_dtype_size(from.dtype));
  visitPieces(from, [&](llvm::ArrayRef<char> piece) {
    copy.bytes.insert(copy.bytes.end(), piece.begin(), piece.end());
  });
  copy.view.data = copy.bytes.data();
  return copy;
}
