//===- Work.h - streams, events and graphs of the fake driver -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TEST_INTEGRATION_CUDA_FAKEDRIVER_WORK_H
#define LOWBIT_TEST_INTEGRATION_CUDA_FAKEDRIVER_WORK_H

#include "Memory.h"

#include "../../../../lib/Runtime/CudaApi.h"
#include "lowbit-c/Emulator.h"

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace fakecuda {

using namespace lowbit::runtime::cuda;

constexpr CUresult invalidContext = 201, invalidImage = 200, invalidHandle = 400;

struct Function {
  lowbit_emulator *emulator;
  std::string name;
  size_t parameters;
  size_t sharedLimit = 48 << 10;
};

struct Library {
  lowbit_emulator *emulator = nullptr;
  void *code = nullptr; ///< emulator.so, for its tables.
  std::map<std::string, std::unique_ptr<Function>> functions;
};

struct Stream;

/// A copy, a launch, or a wait for another stream.
struct Work {
  enum Kind { Copy, Launch, Wait } kind = Copy;
  // Copy. The bytes of pageable memory were taken when the copy was asked for.
  void *to = nullptr;
  const void *from = nullptr;
  size_t bytes = 0;
  std::shared_ptr<std::vector<char>> taken;
  const void *pinned = nullptr; ///< Its end on the host, where that is pinned.
  // Launch.
  Function *function = nullptr;
  unsigned grid[3] = {}, block[3] = {}, sharedBytes = 0;
  std::vector<int64_t> values;
  // Wait.
  Stream *other = nullptr;
  uint64_t position = 0;
};

/// Work is done when somebody waits for it, and not before.
struct Stream {
  std::deque<Work> work;
  uint64_t asked = 0, done = 0;
};

struct Event {
  Stream *stream = nullptr;
  uint64_t position = 0;
};

struct Node {
  Work work;
  std::vector<Node *> dependencies;
};

struct Graph {
  std::vector<std::unique_ptr<Node>> nodes;
};

struct Exec {
  std::vector<const Node *> order;
  std::map<const Node *, Work> work;
};

/// One device, and everything on it.
struct Driver {
  static Driver &get();

  std::mutex mutex;
  Memory device;
  std::map<const char *, size_t> pinned;
  std::set<Stream *> streams;
  std::set<Event *> events;
  std::set<Graph *> graphs;
  std::set<Exec *> execs;
  std::set<Library *> libraries;
  Stream legacy;
  /// A kernel failed: everything after it does.
  CUresult sticky = CUDA_SUCCESS;
  uint64_t launches = 0;
  int retained = 0;
  /// What tests ask for and set; see lowbit_fake_cuda_get.
  std::map<std::string, int64_t> counts, options;

  /// Says what the caller did wrong and counts it.
  CUresult protocolError(const std::string &what, CUresult result = CUDA_ERROR_INVALID_VALUE);
  int64_t option(const char *name, int64_t otherwise) const;
  Stream *find(CUstream stream);
  bool isPinned(const void *address, size_t bytes) const;
  CUresult add(CUstream stream, Work work);
  /// Checks a copy's ranges on the device, and a launch's shape and addresses.
  CUresult verify(const Work &work);
  /// Does what was asked of the stream, up to a position.
  CUresult advance(Stream &stream, uint64_t position);
  CUresult drain();

private:
  Driver();
  CUresult perform(const Work &work);
  CUresult perform(const Work &work, Memory::Access &access);
};

} // namespace fakecuda

#endif // LOWBIT_TEST_INTEGRATION_CUDA_FAKEDRIVER_WORK_H
