//===- LockStep.cpp - many runs of one program that wait for each other ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "LockStep.h"

#include <thread>

using namespace lowbit;

/// The mutex is held.
void LockStep::passTurn(size_t index) {
  turn = (index + 1) % count;
  wakes[turn]->notify_one();
}

bool LockStep::run(size_t runs, const std::function<bool(size_t)> &body) {
  count = runs;
  turn = 0;
  failed = false;
  wakes.clear();
  for (size_t i = 0; i < runs; ++i)
    wakes.push_back(std::make_unique<std::condition_variable>());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < runs; ++i)
    threads.emplace_back([this, i, &body] {
      {
        std::unique_lock<std::mutex> lock(mutex);
        wakes[i]->wait(lock, [&] { return turn == i; });
        if (failed) {
          passTurn(i);
          return;
        }
      }
      bool done = body(i);
      std::lock_guard<std::mutex> lock(mutex);
      failed |= !done;
      passTurn(i);
    });
  for (std::thread &thread : threads)
    thread.join();
  return !failed;
}

bool LockStep::wait(size_t index, const std::function<bool()> &complete) {
  // Only this thread works now.
  if (index + 1 == count && !failed)
    failed |= !complete();
  std::unique_lock<std::mutex> lock(mutex);
  passTurn(index);
  wakes[index]->wait(lock, [&] { return turn == index; });
  return !failed;
}
