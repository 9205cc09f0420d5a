//===- Grid.h - one launch: its blocks, warps and threads ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EMULATOR_GRID_H
#define LOWBIT_LIB_EMULATOR_GRID_H

#include "Fiber.h"
#include "lowbit-c/Emulator.h"
#include "lowbit/Emulator/Table.h"
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace lowbit::emulator {

constexpr uint32_t kLanes = 32;

/// A copy that has been asked for and has not landed.
struct PendingCopy {
  char *target;
  const char *source;
  uint32_t bytes, valid;
};

enum class State { Ready, InWarp, AtBarrier, Done };

struct Thread {
  Fiber fiber;
  State state = State::Ready;
  uint32_t id = 0;
  std::vector<PendingCopy> open;                // since the last commit
  std::vector<std::vector<PendingCopy>> groups; // committed, oldest first
};

/// What the lanes of a warp bring to an instruction that they execute together.
struct Meeting {
  uint32_t arrived = 0, code = 0;
  uint32_t words[kLanes][16]; // inputs
  const void *pointers[kLanes];
};

struct Warp {
  // Two, because fast lanes enter the next meeting while slow ones still read the last.
  Meeting meetings[2];
  uint32_t phase[kLanes] = {};
};

struct Buffer {
  const char *begin, *end;
  bool writable;
};

using Kernel = void (*)(void *const *parameters);

class Grid {
public:
  Grid(Kernel kernel, void *const *parameters, const lowbit_emu_launch &launch,
       std::vector<Buffer> buffers);
  /// Runs every block. Returns "" or what went wrong.
  std::string run();

  /// The launch that the calling thread is in the middle of.
  static Grid &current();

  // Called on a device thread's stack.
  Thread &thread() { return threads[running]; }
  uint32_t lane() const { return running % kLanes; }
  uint32_t specialRegister(uint32_t which) const;
  void *sharedMemory() { return shared; }
  void check(const void *address, uint64_t bytes, uint32_t access);
  void barrier(uint32_t id);
  /// Waits until all lanes have come with the same `code`; `words` and `pointer` are what this lane
  /// brings.
  const Meeting &meet(uint32_t code, const uint32_t *words, uint32_t count, const void *pointer);
  /// Ends the launch: does not return.
  [[noreturn]] void fail(const std::string &message);

private:
  void runBlock();
  void resume(uint32_t index);
  void suspend(State state);
  std::string describeWaiting() const;
  static void threadMain(void *grid);

  Kernel kernel;
  void *const *parameters;
  lowbit_emu_launch launch;
  std::vector<Buffer> buffers;
  std::vector<char> sharedStorage;
  char *shared = nullptr;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  uint32_t block[3] = {0, 0, 0};
  uint32_t running = 0, atBarrier = 0, done = 0, barrierId = 0;
  Context scheduler;
  std::mt19937_64 random;
  std::string error;
};

} // namespace lowbit::emulator

#endif // LOWBIT_LIB_EMULATOR_GRID_H
