//===- Run.h - calls into a model and its calls back ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_RUN_H
#define LOWBIT_LIB_RUNTIME_RUN_H

#include "Device.h"
#include "RunMemory.h"
#include "ThreadPool.h"

#include "lowbit-c/Calibration.h"
#include "lowbit-c/Model.h"

#include <atomic>
#include <memory>
#include <mutex>

namespace lowbit::runtime {

/// What a model's calls back refer to; used by one run at a time and kept for the next.
struct RunContext {
  explicit RunContext(ThreadPool &pool) : pool(pool) {}

  RunMemory memory;
  ThreadPool &pool;
  lowbit_observer observer = nullptr;
  void *observerUser = nullptr;
  lowbit_exchange exchange = nullptr;
  void *exchangeUser = nullptr;
  /// Of a bundle for a device, while a run is in progress.
  std::unique_ptr<DeviceRun> device;

  /// Records the first failure of the run. Any thread of the run may call it.
  void recordFailure(lowbit_status status, const char *message) noexcept;
  /// Forgets failures and the run's buffers.
  void endRun() noexcept;

  /// A part of a parallel loop was left undone.
  std::atomic<bool> abandoned{false};

  std::mutex failureMutex;
  lowbit_status failure = LOWBIT_OK;
  char message[512] = "";
};

/// The callbacks that every model gets.
const lowbit_callbacks &callbacks();

/// Calls `body(argument)`, which calls into model code, on this thread with `context` as the run
/// that the callbacks act for. Where memory runs out the model's frames are abandoned (they own
/// nothing but buffers of `context`). Failures are in context.failure afterwards.
void callModel(RunContext &context, void (*body)(void *), void *argument);

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_RUN_H
