//===- ThreadPool.cpp - the threads of a bundle -----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "ThreadPool.h"

#include "Failure.h"

#include <algorithm>
#include <cfenv>
#include <sched.h>
#include <system_error>

namespace lowbit::runtime {

/// Turns of busy waiting before a thread sleeps: some tens of microseconds, about what waking a
/// sleeping thread costs. Layers follow each other faster than that.
static constexpr int spinTurns = 500;
/// Chunks per thread: enough that a slow thread does not hold up the others for long.
static constexpr int chunksPerThread = 4;

static thread_local bool insideTask = false;

static void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

int availableProcessors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    return std::max(1, CPU_COUNT(&set));
  return std::max(1, int(std::thread::hardware_concurrency()));
}

ThreadPool::ThreadPool(int threads) {
  try {
    workers.reserve(size_t(threads - 1));
    for (int i = 1; i < threads; ++i)
      workers.emplace_back([this] { work(); });
  } catch (const std::system_error &) {
    stopAll();
    fail(LOWBIT_NO_MEMORY, "the system refuses to start " + std::to_string(threads - 1) +
                               " threads; open the bundle with fewer");
  }
}

ThreadPool::~ThreadPool() { stopAll(); }

void ThreadPool::stopAll() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    stopping = true;
    epoch.fetch_add(1, std::memory_order_release);
  }
  wake.notify_all();
  for (std::thread &worker : workers)
    worker.join();
}

void ThreadPool::process(Job &job) {
  insideTask = true;
  while (true) {
    int64_t begin = job.next.fetch_add(job.chunk, std::memory_order_relaxed);
    if (begin >= job.tasks)
      break;
    job.body(job.argument, begin, std::min(begin + job.chunk, job.tasks));
  }
  insideTask = false;
}

ThreadPool::Job *ThreadPool::findJob() {
  for (Job *job : jobs)
    if (job->next.load(std::memory_order_relaxed) < job->tasks)
      return job;
  return nullptr;
}

void ThreadPool::work() {
  // The first caller's modes (flush to zero, rounding) must not decide the results of all.
  std::fesetenv(FE_DFL_ENV);
  std::unique_lock<std::mutex> lock(mutex);
  while (true) {
    Job *job = findJob();
    if (!job && !stopping) {
      uint64_t seen = epoch.load(std::memory_order_relaxed);
      lock.unlock();
      for (int i = 0; i < spinTurns && epoch.load(std::memory_order_acquire) == seen; ++i)
        pause();
      lock.lock();
      wake.wait(lock, [&] { return stopping || (job = findJob()); });
    }
    if (!job)
      return;
    job->helpers.fetch_add(1, std::memory_order_relaxed);
    lock.unlock();
    process(*job);
    lock.lock();
    // After this the caller may leave and the job be gone.
    if (job->helpers.fetch_sub(1, std::memory_order_release) == 1)
      done.notify_all();
  }
}

void ThreadPool::run(int64_t tasks, Body body, void *argument) {
  if (tasks <= 0)
    return;
  if (tasks == 1 || workers.empty() || insideTask)
    return body(argument, 0, tasks);

  Job job;
  job.body = body;
  job.argument = argument;
  job.tasks = tasks;
  job.chunk = std::max<int64_t>(1, tasks / (int64_t(threads()) * chunksPerThread));
  {
    std::lock_guard<std::mutex> lock(mutex);
    jobs.push_back(&job);
    epoch.fetch_add(1, std::memory_order_release);
  }
  wake.notify_all();
  process(job);

  std::unique_lock<std::mutex> lock(mutex);
  jobs.erase(std::find(jobs.begin(), jobs.end(), &job));
  // Nobody can join any more; most helpers are about to finish.
  lock.unlock();
  for (int i = 0; i < spinTurns && job.helpers.load(std::memory_order_acquire) != 0; ++i)
    pause();
  if (job.helpers.load(std::memory_order_acquire) == 0)
    return;
  lock.lock();
  done.wait(lock, [&] { return job.helpers.load(std::memory_order_acquire) == 0; });
}

} // namespace lowbit::runtime
