//===- Run.cpp - calls into a model and its calls back ----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Model code is compiled without unwind tables, so no exception may pass through it. A
// run that cannot go on is left with longjmp. It crosses model frames and the callback
// alone: neither has anything to destroy. Each thread that enters model code, also for a
// part of a parallel loop, sets its own point of return.
//
//===----------------------------------------------------------------------===//
#include "Run.h"

#include "Failure.h"

#include <algorithm>
#include <cfenv>
#include <csetjmp>
#include <cstdlib>
#include <cstring>

namespace lowbit::runtime {

namespace {

/// The run that this thread works for.
struct ThreadState {
  RunContext *context = nullptr;
  std::jmp_buf *unwind = nullptr;
  /// This thread called callModel(), and is not within a parallel loop.
  bool outermost = false;
};

/// One parallel loop of a model.
struct Loop {
  RunContext *context;
  lowbit_task body;
  void *argument;
};

/// The thread computes with default rounding, denormals and masked exceptions, whatever the caller
/// has set, so that results do not depend on it; the caller's settings come back afterwards.
class DefaultFloatingPoint {
public:
  DefaultFloatingPoint() {
    std::fegetenv(&saved);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatingPoint() { std::fesetenv(&saved); }

private:
  std::fenv_t saved;
};

} // namespace

static thread_local ThreadState state;

void RunContext::recordFailure(lowbit_status status, const char *text) noexcept {
  std::lock_guard<std::mutex> lock(failureMutex);
  if (failure != LOWBIT_OK)
    return;
  failure = status;
  size_t length = std::min(std::strlen(text), sizeof message - 1);
  std::memcpy(message, text, length);
  message[length] = 0;
}

void RunContext::endRun() noexcept {
  device.reset();
  memory.endRun();
  if (exchange)
    memory.trimCache(); // Many runs that ended may be waited for.
  failure = LOWBIT_OK;
  abandoned = false;
}

/// Ends this thread's part of the run. Not reached outside of a run: there is always a point of
/// return while model code is on the stack.
[[noreturn]] static void leaveModel(lowbit_status status, const char *message) {
  state.context->recordFailure(status, message);
  state.context->abandoned = true;
  std::longjmp(*state.unwind, 1);
}

static void *allocate(int64_t bytes, int64_t alignment) {
  if (bytes < 0 || alignment < 1 || alignment > 4096 || (alignment & (alignment - 1)) != 0)
    leaveModel(LOWBIT_INTERNAL, "the model asked for a buffer of impossible size or alignment");
  void *pointer = state.context->memory.allocate(bytes, alignment);
  if (!pointer)
    leaveModel(LOWBIT_NO_MEMORY, "out of memory for the model's buffers");
  return pointer;
}

static void release(void *pointer) { state.context->memory.free(pointer); }

/// Kept apart from the caller, whose variables must not change between setjmp and longjmp.
static void enterModel(void (*body)(void *), void *argument, std::jmp_buf &unwind) {
  if (setjmp(unwind) == 0)
    body(argument);
}

static void runTasks(void *pointer, int64_t begin, int64_t end) {
  struct Part {
    Loop *loop;
    int64_t begin, end;
  } part = {static_cast<Loop *>(pointer), begin, end};
  ThreadState saved = state;
  std::jmp_buf unwind;
  state = {part.loop->context, &unwind, false};
  enterModel(
      [](void *argument) {
        Part &part = *static_cast<Part *>(argument);
        part.loop->body(part.loop->argument, part.begin, part.end);
      },
      &part, unwind);
  state = saved;
}

static void parallelFor(int64_t tasks, lowbit_task body, void *argument) {
  if (!state.outermost) {
    if (tasks > 0)
      body(argument, 0, tasks);
    return;
  }
  Loop loop = {state.context, body, argument};
  state.context->pool.run(tasks, runTasks, &loop);
  // A part that failed left its work undone; nothing after it can be right.
  if (state.context->abandoned)
    std::longjmp(*state.unwind, 1);
}

static void observe(int64_t id, const float *data, int64_t rank, const int64_t *shape) {
  if (!state.outermost)
    return state.context->recordFailure(LOWBIT_INTERNAL,
                                        "the model observes a tensor within a parallel loop");
  if (state.context->observer)
    state.context->observer(state.context->observerUser, id, data, rank, shape);
}

static void exchange(int64_t id, float *data, int64_t rank, const int64_t *dims) {
  RunContext &context = *state.context;
  if (!state.outermost || !context.exchange)
    leaveModel(LOWBIT_INTERNAL, state.outermost
                                    ? "the model has exchange points, and nobody serves them"
                                    : "the model has an exchange point within a parallel loop");
  // Many runs may wait here at once: none keeps what it does not use.
  context.memory.trimCache();
  if (context.exchange(context.exchangeUser, id, data, rank, dims) != 0)
    leaveModel(LOWBIT_INVALID, "stopped at an exchange point");
}

static void reportFailure(const char *message) {
  leaveModel(LOWBIT_INVALID, message ? message : "a check in the model failed");
}

/// Calls `body(device)` and leaves the model where that fails. Nothing with a destructor is alive then.
template <typename Body> static void callDevice(Body body) {
  if (!state.outermost || !state.context->device)
    leaveModel(LOWBIT_INTERNAL, state.outermost ? "the model calls a device, and this run has none"
                                                : "the model calls a device within a parallel loop");
  lowbit_status status = guarded([&] { body(*state.context->device); });
  if (status != LOWBIT_OK)
    leaveModel(status, lowbit_last_error());
}

static void *allocateOnDevice(int64_t bytes) {
  void *address = nullptr;
  callDevice([&](DeviceRun &device) {
    if (bytes < 0)
      fail(LOWBIT_INTERNAL, "the model asked for a device buffer of impossible size");
    address = device.allocate(bytes);
  });
  return address;
}

static void freeOnDevice(void *address) {
  callDevice([&](DeviceRun &device) { device.free(address); });
}

static void transfer(void *to, const void *from, int64_t bytes) {
  if (bytes > 0)
    callDevice([&](DeviceRun &device) { device.transfer(to, from, bytes); });
}

static void enqueue(int64_t kernel, const int64_t *shape, const int64_t *arguments, int64_t count) {
  callDevice([&](DeviceRun &device) { device.enqueue(kernel, shape, arguments, count); });
}

const lowbit_callbacks &callbacks() {
  static const lowbit_callbacks table = {allocate,      release,  parallelFor,      observe,
                                         reportFailure, exchange, allocateOnDevice, freeOnDevice,
                                         transfer,      enqueue};
  return table;
}

void callModel(RunContext &context, void (*body)(void *), void *argument) {
  DefaultFloatingPoint floatingPoint;
  ThreadState saved = state;
  std::jmp_buf unwind;
  state = {&context, &unwind, true};
  enterModel(body, argument, unwind);
  state = saved;
}

} // namespace lowbit::runtime
