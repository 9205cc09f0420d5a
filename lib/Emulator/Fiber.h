//===- Fiber.h - a stack of its own, and switching to it ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EMULATOR_FIBER_H
#define LOWBIT_LIB_EMULATOR_FIBER_H

#include <cstddef>

namespace lowbit::emulator {

/// Where a suspended computation goes on. Only the registers that a call preserves are kept, on its
/// stack.
struct Context {
  void *stackPointer = nullptr;
};

/// Leaves the current computation in `from` and goes on with `to`.
void switchContext(Context &from, const Context &to);

/// Its stack comes from, and goes back to, a store of the calling thread: launches are many. Below
/// it lies a page that cannot be touched.
class Fiber {
public:
  static constexpr std::size_t kStackBytes = 128 * 1024;
  Fiber();
  ~Fiber();
  Fiber(Fiber &&other) : context(other.context), stack(other.stack) { other.stack = nullptr; }
  /// The next switch to `context` calls entry(argument) on this stack. `entry` must not return.
  void prepare(void (*entry)(void *), void *argument);
  /// Whether an address is one of this stack.
  bool holds(const char *address) const {
    return address >= stack && address < stack + kStackBytes;
  }
  Context context;

private:
  char *stack;
};

} // namespace lowbit::emulator

#endif // LOWBIT_LIB_EMULATOR_FIBER_H
