//===- Parallel.cpp - loops over fixed pieces of work -----------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Numerics/Parallel.h"

#include <algorithm>
#include <atomic>
#include <pthread.h>
#include <thread>
#include <vector>

namespace lowbit {

namespace {
struct Loop {
  int64_t count;
  const std::function<void(int64_t)> &body;
  std::atomic<int64_t> next{0};

  void run() {
    for (int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1))
      body(i);
  }
};
} // namespace

static void *runLoop(void *loop) {
  static_cast<Loop *>(loop)->run();
  return nullptr;
}

void parallelFor(int64_t count, unsigned threads, const std::function<void(int64_t)> &body) {
  if (threads == 0)
    threads = std::max(1u, std::thread::hardware_concurrency());
  Loop loop{count, body};
  // Not std::thread, whose failure to start is an exception, which this code is built without.
  std::vector<pthread_t> started;
  for (int64_t i = 1; i < std::min<int64_t>(threads, count); ++i) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, runLoop, &loop) != 0)
      break;
    started.push_back(thread);
  }
  loop.run();
  for (pthread_t thread : started)
    pthread_join(thread, nullptr);
}

} // namespace lowbit
