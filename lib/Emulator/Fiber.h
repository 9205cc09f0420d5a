//===- Fiber.h - a stack of its own, and switching to it ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EMULATOR_FIBER_H
#define LOWBIT_LIB_EMULATOR_FIBER_H

#include <cstddef>
#include <memory>

namespace lowbit::emulator {

/// Where a suspended computation goes on. Only the registers that a call preserves are kept, on its
/// stack.
struct Context {
  void *stackPointer = nullptr;
};

/// Leaves the current computation in `from` and goes on with `to`.
void switchContext(Context &from, const Context &to);

class Fiber {
public:
  static constexpr std::size_t kStackBytes = 64 * 1024;
  Fiber();
  Fiber(Fiber &&) = default;
  /// The next switch to `context` calls entry(argument) on this stack. `entry` must not return.
  void prepare(void (*entry)(void *), void *argument);
  Context context;

private:
  std::unique_ptr<char[]> stack;
};

} // namespace lowbit::emulator

#endif // LOWBIT_LIB_EMULATOR_FIBER_H
