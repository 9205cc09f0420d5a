//===- Fiber.cpp - a stack of its own, and switching to it ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// x86-64 only, as is the code that runs on these stacks. A switch is twelve instructions;
// swapcontext would make two system calls, and a kernel switches a million times.
//
//===----------------------------------------------------------------------===//
#include "Fiber.h"
#include <cstdint>
#include <new>
#include <sys/mman.h>
#include <vector>

using namespace lowbit::emulator;

// void lowbit_emu_switch(void **from, void *to)
asm(R"(
.text
.p2align 4
.hidden lowbit_emu_switch
.globl lowbit_emu_switch
.type lowbit_emu_switch, @function
lowbit_emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  retq
.size lowbit_emu_switch, .-lowbit_emu_switch

.p2align 4
.hidden lowbit_emu_start
.globl lowbit_emu_start
.type lowbit_emu_start, @function
lowbit_emu_start:
  movq %r12, %rdi
  callq *%r13
  ud2
.size lowbit_emu_start, .-lowbit_emu_start
)");
extern "C" void lowbit_emu_switch(void **from, void *to);
extern "C" void lowbit_emu_start();

void lowbit::emulator::switchContext(Context &from, const Context &to) {
  lowbit_emu_switch(&from.stackPointer, to.stackPointer);
}

static constexpr std::size_t kPageBytes = 4096;

namespace {
struct Stacks {
  std::vector<char *> unused;
  ~Stacks() {
    for (char *stack : unused)
      munmap(stack - kPageBytes, Fiber::kStackBytes + kPageBytes);
  }
};
} // namespace

static thread_local Stacks stacks;

Fiber::Fiber() {
  if (!stacks.unused.empty()) {
    stack = stacks.unused.back();
    stacks.unused.pop_back();
    return;
  }
  void *memory = mmap(nullptr, kStackBytes + kPageBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw std::bad_alloc();
  mprotect(memory, kPageBytes, PROT_NONE);
  stack = static_cast<char *>(memory) + kPageBytes;
}

Fiber::~Fiber() {
  if (stack)
    stacks.unused.push_back(stack);
}

void Fiber::prepare(void (*entry)(void *), void *argument) {
  auto top = reinterpret_cast<std::uintptr_t>(stack + kStackBytes) & ~std::uintptr_t(15);
  auto *slots = reinterpret_cast<void **>(top) - 9;
  slots[0] = nullptr;                         // r15
  slots[1] = nullptr;                         // r14
  slots[2] = reinterpret_cast<void *>(entry); // r13
  slots[3] = argument;                        // r12
  slots[4] = slots[5] = nullptr;              // rbx, rbp
  slots[6] = reinterpret_cast<void *>(&lowbit_emu_start);
  slots[7] = slots[8] =
      nullptr; // lowbit_emu_start finds the stack aligned to 16, as a call wants it.
  context.stackPointer = slots;
}
