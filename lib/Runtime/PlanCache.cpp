//===- PlanCache.cpp - plans by the shapes that they are for -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "PlanCache.h"

namespace lowbit::runtime {

std::shared_ptr<PreparedPlan> PlanCache::find(const std::string &key) {
  std::lock_guard<std::mutex> lock(mutex);
  auto found = byKey.find(key);
  if (found == byKey.end())
    return nullptr;
  entries.splice(entries.begin(), entries, found->second);
  return found->second->second;
}

std::shared_ptr<PreparedPlan> PlanCache::latest() {
  std::lock_guard<std::mutex> lock(mutex);
  return entries.empty() ? nullptr : entries.front().second;
}

void PlanCache::insert(const std::string &key, std::shared_ptr<PreparedPlan> plan) {
  std::lock_guard<std::mutex> lock(mutex);
  // Another run may have been as fast.
  if (byKey.count(key))
    return;
  entries.emplace_front(key, std::move(plan));
  byKey[key] = entries.begin();
  if (entries.size() <= capacity)
    return;
  byKey.erase(entries.back().first);
  entries.pop_back();
}

} // namespace lowbit::runtime
