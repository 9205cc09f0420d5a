//===- ChannelPatterns.cpp - channel patterns through data movement ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ChannelPatterns.h"
#include "mlir/IR/BuiltinTypes.h"
#include <algorithm>

using namespace lowbit;

static int64_t product(ArrayRef<int64_t> shape) {
  int64_t count = 1;
  for (int64_t dim : shape)
    count *= dim;
  return count;
}

SmallVector<int64_t> lowbit::broadcastStrides(ArrayRef<int64_t> shape) {
  SmallVector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    strides[d] = shape[d] == 1 ? 0 : stride;
    stride *= shape[d];
  }
  return strides;
}

/// The elements of `ids` at `strides` for each index of `shape`, in row-major order.
static std::vector<int32_t> gather(ArrayRef<int32_t> ids, ArrayRef<int64_t> shape,
                                   ArrayRef<int64_t> strides) {
  std::vector<int32_t> result;
  int64_t count = product(shape);
  result.reserve(count);
  SmallVector<int64_t> index(shape.size(), 0);
  int64_t offset = 0;
  for (int64_t i = 0; i < count; ++i) {
    result.push_back(ids[offset]);
    for (size_t d = shape.size(); d-- > 0;) {
      offset += strides[d];
      if (++index[d] < shape[d])
        break;
      offset -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
  return result;
}

ChannelPattern lowbit::broadcast(const ChannelPattern &pattern, ArrayRef<int64_t> shape) {
  SmallVector<int64_t, 4> own(shape.size() - pattern.shape.size(), 1);
  llvm::append_range(own, pattern.shape);
  ChannelPattern result;
  result.shape.assign(shape.begin(), shape.end());
  result.ids = gather(pattern.ids, shape, broadcastStrides(own));
  return result;
}

std::optional<SmallVector<int64_t, 4>> lowbit::broadcastShape(ArrayRef<int64_t> a,
                                                              ArrayRef<int64_t> b) {
  if (a.size() < b.size())
    std::swap(a, b);
  SmallVector<int64_t, 4> shape(a);
  size_t missing = a.size() - b.size();
  for (size_t d = 0; d < b.size(); ++d) {
    int64_t &dim = shape[missing + d];
    if (dim != b[d] && dim != 1 && b[d] != 1)
      return std::nullopt;
    if (dim == 1)
      dim = b[d];
  }
  return shape;
}

ChannelPattern lowbit::transposed(const ChannelPattern &pattern, ArrayRef<int64_t> permutation) {
  SmallVector<int64_t> strides = broadcastStrides(pattern.shape), moved;
  ChannelPattern result;
  for (int64_t axis : permutation) {
    result.shape.push_back(pattern.shape[axis]);
    moved.push_back(strides[axis]);
  }
  result.ids = gather(pattern.ids, result.shape, moved);
  return result;
}

ChannelPattern lowbit::selected(const ChannelPattern &pattern, size_t axis,
                                ArrayRef<int64_t> positions, llvm::function_ref<int32_t()> fresh) {
  int64_t outer = product(ArrayRef(pattern.shape).take_front(axis)),
          inner = product(ArrayRef(pattern.shape).drop_front(axis + 1)), size = pattern.shape[axis];
  ChannelPattern result;
  result.shape = pattern.shape;
  result.shape[axis] = positions.size();
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t position : positions)
      for (int64_t i = 0; i < inner; ++i)
        result.ids.push_back(position < 0 ? fresh()
                                          : pattern.ids[(o * size + position) * inner + i]);
  return result;
}

ReshapeGroups lowbit::reshapeGroups(ArrayRef<int64_t> from, ArrayRef<int64_t> to) {
  using Group = ReshapeGroups::Group;
  size_t fromBegin = 0, toBegin = 0, fromEnd = from.size(), toEnd = to.size();
  auto isStatic = [](int64_t dim) { return !ShapedType::isDynamic(dim) && dim > 0; };

  std::vector<Group> last;
  while (fromEnd > 0 && toEnd > 0 && isStatic(from[fromEnd - 1]) && isStatic(to[toEnd - 1])) {
    size_t f = fromEnd - 1, t = toEnd - 1;
    int64_t a = from[f], b = to[t];
    while (a != b) {
      bool growFrom = a < b;
      size_t &position = growFrom ? f : t;
      ArrayRef<int64_t> shape = growFrom ? from : to;
      if (position == 0 || !isStatic(shape[position - 1]))
        break;
      (growFrom ? a : b) *= shape[--position];
    }
    if (a != b)
      break;
    last.push_back({f, fromEnd, t, toEnd, true});
    fromEnd = f;
    toEnd = t;
  }
  ReshapeGroups result;
  while (fromBegin < fromEnd && toBegin < toEnd && isStatic(from[fromBegin]) &&
         isStatic(to[toBegin])) {
    size_t f = fromBegin + 1, t = toBegin + 1;
    int64_t a = from[fromBegin], b = to[toBegin];
    while (a != b) {
      bool growFrom = a < b;
      size_t &position = growFrom ? f : t;
      ArrayRef<int64_t> shape = growFrom ? from : to;
      if (position == (growFrom ? fromEnd : toEnd) || !isStatic(shape[position]))
        break;
      (growFrom ? a : b) *= shape[position++];
    }
    if (a != b)
      break;
    result.groups.push_back({fromBegin, f, toBegin, t, true});
    fromBegin = f;
    toBegin = t;
  }
  if (fromBegin < fromEnd || toBegin < toEnd)
    result.groups.push_back({fromBegin, fromEnd, toBegin, toEnd, false});
  result.groups.insert(result.groups.end(), last.rbegin(), last.rend());
  return result;
}

ChannelPattern lowbit::reshaped(const ChannelPattern &pattern, ArrayRef<int64_t> from,
                                ArrayRef<int64_t> to, const ReshapeGroups &groups) {
  // Dims of a group vary together, all or none of them.
  SmallVector<int64_t, 4> full(pattern.shape), shape(to.size(), 1);
  for (const ReshapeGroups::Group &group : groups.groups) {
    bool varies = false;
    for (size_t d = group.fromBegin; d < group.fromEnd; ++d)
      varies |= pattern.varies(d);
    if (!varies || !group.exact)
      continue;
    for (size_t d = group.fromBegin; d < group.fromEnd; ++d)
      full[d] = from[d];
    for (size_t d = group.toBegin; d < group.toEnd; ++d)
      shape[d] = to[d];
  }
  ChannelPattern result = broadcast(pattern, full);
  result.shape = shape;
  return result;
}
