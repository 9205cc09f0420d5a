//===- ThreadPool.h - the threads of a bundle -------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_THREADPOOL_H
#define LOWBIT_LIB_RUNTIME_THREADPOOL_H

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace lowbit::runtime {

/// A fixed set of threads that help callers with their tasks. Any number of threads may call run()
/// at the same time; each works on its own tasks and never waits for a helper that has not started,
/// so progress does not depend on the pool.
class ThreadPool {
public:
  using Body = void (*)(void *argument, int64_t begin, int64_t end);

  /// `threads` counts the caller: threads - 1 are started. Throws Failure where the system refuses.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  /// Calls body on ranges that make up [0, tasks) and returns when all are done. `body` must not
  /// throw. Called from within a body it does everything itself.
  void run(int64_t tasks, Body body, void *argument);

  int threads() const { return int(workers.size()) + 1; }

private:
  /// Lives on the stack of the caller of run().
  struct Job {
    Body body;
    void *argument;
    int64_t tasks, chunk;
    std::atomic<int64_t> next{0};
    /// Workers inside this job; changed under `mutex`.
    std::atomic<int> helpers{0};
  };

  void work();
  static void process(Job &job);
  Job *findJob();
  void stopAll();

  std::mutex mutex;
  std::condition_variable wake, done;
  std::vector<Job *> jobs;
  /// Counts run() calls, so that an idle worker can watch for the next without the lock.
  std::atomic<uint64_t> epoch{0};
  bool stopping = false;
  std::vector<std::thread> workers;
};

/// Processors that this process may run on; at least 1.
int availableProcessors();

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_THREADPOOL_H
