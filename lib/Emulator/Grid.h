//===- Grid.h - one launch: its blocks, warps and threads ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EMULATOR_GRID_H
#define LOWBIT_LIB_EMULATOR_GRID_H

#include "BankConflicts.h"
#include "Clocks.h"
#include "Fiber.h"
#include "GlobalShadow.h"
#include "SharedShadow.h"
#include "TensorMap.h"
#include "lowbit-c/Emulator.h"
#include "lowbit/Emulator/Table.h"
#include <cstdint>
#include <memory>
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

enum class State { Ready, InWarp, AtBarrier, AtObject, Done };

struct Thread {
  Fiber fiber;
  State state = State::Ready;
  uint32_t barrierResult = 0;
  bool dependencyMet = false;                   // has seen griddepcontrol.wait
  std::vector<PendingCopy> open;                // since the last commit
  std::vector<std::vector<PendingCopy>> groups; // committed, oldest first
  std::vector<PendingStore> openStores;         // by the copy engine
  std::vector<std::vector<PendingStore>> storeGroups;
};

/// Bytes of shared memory.
struct Range {
  uint64_t offset, bytes;
};

/// What wgmma of a warp still reads.
struct PendingMultiply {
  uint32_t lastTicket = 0;
  std::vector<Range> operands;
};

/// An mbarrier.
struct BarrierObject {
  uint32_t count = 0, pending = 0; // arrivals of a phase, and those still to come
  int64_t bytes = 0;               // still to be copied
  uint64_t phase = 0;
  VectorClock joined, released; // of this phase, of the last
  std::vector<PendingLoad> loads;
  std::vector<uint32_t> waiting;
};

/// What the lanes of a warp bring to an instruction that they execute together.
struct Meeting {
  uint32_t code = 0, mask = 0, arrived = 0;
  uint32_t present = 0;       // lanes that have not left again; 0: unused
  uint32_t words[kLanes][12]; // inputs
  uint32_t results[kLanes][4];
  void *pointers[kLanes];
};
using Compute = void (*)(Meeting &);

struct Warp {
  std::vector<std::unique_ptr<Meeting>> meetings;
  AccessLog accesses;
  uint32_t ready = 0; // how many lanes can run
  // wgmma: whether registers are fenced, tickets given out and waited for.
  bool fenced = false;
  uint32_t issued = 0, finished = 0;
  PendingMultiply open;
  std::vector<PendingMultiply> multiplies; // committed, oldest first
};

/// One of the sixteen barriers of a block.
struct NamedBarrier {
  uint32_t arrived = 0, expected = 0; // expected 0: all threads that have not ended
  bool partial = false;               // some only arrive, or not all threads take part
  VectorClock joined;
  std::vector<uint32_t> waiting;
  uint32_t count = 0, truths = 0; // of a reduction
};

struct Buffer {
  const char *begin, *end;
  bool writable, constant;
};

using Kernel = void (*)(void *const *parameters);

class Grid {
public:
  Grid(Kernel kernel, void *const *parameters, const lowbit_emu_launch &launch,
       std::vector<Buffer> buffers);
  /// Runs every block. Returns "" or what went wrong.
  std::string run();
  const lowbit_emu_statistics &statistics() const { return counts; }

  /// The launch that the calling thread is in the middle of.
  static Grid &current();

  // Called on a device thread's stack.
  uint32_t running() const { return runningThread; }
  Thread &thread() { return threads[runningThread]; }
  uint32_t lane() const { return runningThread % kLanes; }
  uint32_t specialRegister(uint32_t which) const;
  void *sharedMemory() { return shared; }

  /// `site` tells the instructions of a kernel apart.
  void check(const void *address, uint64_t bytes, uint32_t access, const void *site);
  /// The same for one kind of instruction; gives the offset in shared memory.
  uint64_t checkShared(const void *address, uint64_t bytes);
  void checkGlobal(const char *address, uint64_t bytes, uint32_t access);
  void noteSharedRead(uint64_t offset, uint64_t bytes, Kind kind);
  void noteSharedWrite(uint64_t offset, uint64_t bytes, Kind kind);
  /// cp.async writes to shared memory.
  void noteCopy(uint64_t offset, uint32_t bytes, const void *site) {
    warps[runningThread / kLanes].accesses.add(site, &counts.copies, {offset, lane(), bytes});
  }

  void barrier(uint32_t id, uint32_t count, bool arriveOnly, uint32_t value = 0);
  /// Waits until the lanes of `mask` have come with the same `code`; `words` and `pointer` are what
  /// this lane brings. The last to come runs `compute`. What is returned stays valid until this
  /// lane's next instruction.
  const Meeting &meet(uint32_t code, uint32_t mask, const uint32_t *words, uint32_t count,
                      void *pointer, Compute compute = nullptr);
  /// Orders the lanes' memory accesses, as bar.warp.sync does.
  void warpBarrier(uint32_t mask);
  void fence(uint32_t kind);
  void waitForEarlierGrids();
  /// A bit per lane of this warp that can run or is running.
  uint32_t activeLanes() const;

  Warp &warp() { return warps[runningThread / kLanes]; }
  uint32_t numThreads() const { return static_cast<uint32_t>(threads.size()); }
  /// The mbarrier at this address, which some thread of the block must have initialized.
  BarrierObject &object(void *address);
  std::unordered_map<uint64_t, BarrierObject> objects; // by offset

  /// Lets others run.
  void yield();
  /// Stops this thread until `wake`.
  void suspend(State state);
  void wake(uint32_t index);
  /// Ends the launch: does not return.
  [[noreturn]] void fail(const std::string &message);
  void failIf(const std::string &message) {
    if (!message.empty())
      fail(message);
  }

  bool detectsRaces() const { return !(launch.flags & LOWBIT_EMU_NO_RACES); }
  Clocks clocks;
  SharedShadow sharedShadow;
  GlobalShadow globalShadow;
  lowbit_emu_statistics counts = {};
  /// Each thread's clock at its last fence.proxy.async.
  VectorClock proxyFences;

private:
  void runBlock(uint64_t number);
  void resume(uint32_t index);
  void complete(NamedBarrier &barrier);
  void endThread();
  std::string describeWaiting() const;
  void checkDependency(const Buffer &buffer);
  static void threadMain(void *grid);

  Kernel kernel;
  void *const *parameters;
  lowbit_emu_launch launch;
  std::vector<Buffer> buffers;
  size_t lastBuffer = 0;
  std::unique_ptr<char[]> sharedStorage;
  char *shared = nullptr;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  NamedBarrier barriers[16];
  struct Wait {
    uint32_t thread, when;
  };
  std::vector<Wait> dependencyWaits;
  uint32_t block[3] = {0, 0, 0};
  uint32_t runningThread = 0, done = 0;
  uint64_t polls = 0; // in a row that found nothing new
  Context scheduler;
  std::mt19937_64 random;
  std::string error;
};

} // namespace lowbit::emulator

#endif // LOWBIT_LIB_EMULATOR_GRID_H
