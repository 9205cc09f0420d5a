//===- ChannelGroups.cpp - channels of one tensor ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ChannelGroups.h"
#include "llvm/ADT/STLExtras.h"
#include <numeric>

using namespace lowbit;

std::vector<ChannelGroup> lowbit::findChannelGroups(const ChannelGraph &graph) {
  std::vector<int32_t> parent(graph.size());
  std::iota(parent.begin(), parent.end(), 0);
  auto root = [&](int32_t id) {
    while (parent[id] != id)
      id = parent[id] = parent[parent[id]];
    return id;
  };
  auto join = [&](ArrayRef<int32_t> channels) {
    int32_t first = -1;
    for (int32_t channel : channels) {
      int32_t id = graph.find(channel);
      if (id == ChannelGraph::fixed)
        continue;
      if (first < 0)
        first = root(id);
      parent[root(id)] = first;
    }
  };
  for (const ScaledWeight &weight : graph.weights) {
    join(weight.in);
    join(weight.out);
  }
  for (const ScaledVector &vector : graph.vectors)
    if (vector.role == ScaledVector::Role::Gain)
      join(vector.out.ids);

  std::vector<ChannelGroup> groups;
  llvm::DenseMap<int32_t, size_t> places;
  auto groupOf = [&](ArrayRef<int32_t> channels) -> ChannelGroup * {
    for (int32_t channel : channels) {
      int32_t id = graph.find(channel);
      if (id == ChannelGraph::fixed)
        continue;
      auto [place, isNew] = places.try_emplace(root(id), groups.size());
      if (isNew)
        groups.emplace_back();
      return &groups[place->second];
    }
    return nullptr;
  };
  for (auto [index, weight] : llvm::enumerate(graph.weights)) {
    if (ChannelGroup *group = groupOf(weight.in))
      group->consumers.push_back(index);
    if (ChannelGroup *group = groupOf(weight.out))
      group->producers.push_back(index);
  }
  for (auto [index, vector] : llvm::enumerate(graph.vectors))
    if (vector.role == ScaledVector::Role::Gain)
      if (ChannelGroup *group = groupOf(vector.out.ids))
        group->gains.push_back(index);
  for (size_t id = 1; id < graph.size(); ++id)
    if (graph.find(id) == int32_t(id))
      if (auto place = places.find(root(id)); place != places.end())
        groups[place->second].ids.push_back(id);
  return groups;
}
