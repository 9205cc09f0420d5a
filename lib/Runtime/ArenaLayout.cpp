//===- ArenaLayout.cpp - buffers of known lifetimes in one arena -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ArenaLayout.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace lowbit::runtime {

static int64_t rounded(int64_t bytes) {
  return (bytes + arenaAlignment - 1) / arenaAlignment * arenaAlignment;
}

static bool meet(const ArenaItem &a, const ArenaItem &b) {
  return a.first <= b.last && b.first <= a.last;
}

/// The smallest gap between `neighbours`, sorted by offset, that `bytes` fit into; the end of them
/// all where there is none.
static int64_t bestGap(const std::vector<const ArenaItem *> &neighbours, int64_t bytes) {
  int64_t end = 0, best = -1, smallest = std::numeric_limits<int64_t>::max();
  for (const ArenaItem *item : neighbours) {
    int64_t gap = item->offset - end;
    if (gap >= bytes && gap < smallest) {
      smallest = gap;
      best = end;
    }
    end = std::max(end, item->offset + rounded(item->bytes));
  }
  return best >= 0 ? best : end;
}

int64_t layOut(std::vector<ArenaItem> &items) {
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return items[a].bytes != items[b].bytes ? items[a].bytes > items[b].bytes : a < b;
  });
  // Those that have an offset, sorted by it.
  std::vector<const ArenaItem *> placed, neighbours;
  int64_t arena = 0;
  for (size_t i : order) {
    ArenaItem &item = items[i];
    if (item.bytes == 0)
      continue;
    neighbours.clear();
    for (const ArenaItem *other : placed)
      if (meet(item, *other))
        neighbours.push_back(other);
    item.offset = bestGap(neighbours, rounded(item.bytes));
    arena = std::max(arena, item.offset + rounded(item.bytes));
    auto behind = [](const ArenaItem *a, const ArenaItem *b) { return a->offset < b->offset; };
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &item, behind), &item);
  }
  return arena;
}

bool isSound(const std::vector<ArenaItem> &items, int64_t arenaBytes) {
  for (size_t i = 0; i < items.size(); ++i) {
    const ArenaItem &a = items[i];
    if (a.offset < 0 || a.offset % arenaAlignment != 0 || a.bytes > arenaBytes - a.offset)
      return false;
    for (size_t j = 0; j < i; ++j) {
      const ArenaItem &b = items[j];
      if (meet(a, b) && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes)
        return false;
    }
  }
  return true;
}

} // namespace lowbit::runtime
