//===- PlanCache.h - plans by the shapes that they are for -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_PLANCACHE_H
#define LOWBIT_LIB_RUNTIME_PLANCACHE_H

#include "Device.h"

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

namespace lowbit::runtime {

/// The plans used last. Any thread may call.
class PlanCache {
public:
  /// How many plans are kept.
  static constexpr size_t capacity = 32;

  /// Null where there is none.
  std::shared_ptr<PreparedPlan> find(const std::string &key);
  /// The one used last; null where there was none.
  std::shared_ptr<PreparedPlan> latest();
  void insert(const std::string &key, std::shared_ptr<PreparedPlan> plan);

private:
  using Entry = std::pair<std::string, std::shared_ptr<PreparedPlan>>;
  std::mutex mutex;
  std::list<Entry> entries; ///< The latest first.
  std::unordered_map<std::string, std::list<Entry>::iterator> byKey;
};

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_PLANCACHE_H
