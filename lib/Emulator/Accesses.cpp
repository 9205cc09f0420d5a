//===- Accesses.cpp - bounds, races and banks of each access ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Grid.h"

using namespace lowbit::emulator;

uint64_t Grid::checkShared(const void *address, uint64_t bytes) {
  auto *begin = static_cast<const char *>(address);
  if (begin < shared || begin + bytes > shared + launch.shared_bytes)
    fail("shared memory access of " + std::to_string(bytes) + " bytes at offset " +
         std::to_string(begin - shared) + " of " + std::to_string(launch.shared_bytes));
  return begin - shared;
}

void Grid::noteSharedRead(uint64_t offset, uint64_t bytes, Kind kind) {
  if (detectsRaces())
    failIf(sharedShadow.read(offset, bytes, runningThread, kind));
}

void Grid::noteSharedWrite(uint64_t offset, uint64_t bytes, Kind kind) {
  if (detectsRaces())
    failIf(sharedShadow.write(offset, bytes, runningThread, kind));
}

void Grid::checkDependency(const Buffer &buffer) {
  if (buffer.constant || thread().dependencyMet)
    return;
  for (const Wait &wait : dependencyWaits)
    if (clocks.ordered(wait.thread, wait.when, runningThread)) {
      thread().dependencyMet = true;
      return;
    }
  fail("a kernel that starts before the last one has ended touches memory that is not constant "
       "before griddepcontrol.wait");
}

void Grid::checkGlobal(const char *begin, uint64_t bytes, uint32_t access) {
  bool write = (access & LOWBIT_EMU_ACCESS_MASK) != LOWBIT_EMU_READ_ACCESS;
  auto holds = [&](const Buffer &buffer) {
    return begin >= buffer.begin && begin + bytes <= buffer.end && (buffer.writable || !write);
  };
  // Writable ones come first: what is read there may have been written.
  if (lastBuffer >= buffers.size() || !buffers[lastBuffer].writable ||
      !holds(buffers[lastBuffer])) {
    bool readOnly = false;
    for (lastBuffer = 0; lastBuffer < buffers.size() && !holds(buffers[lastBuffer]); ++lastBuffer)
      readOnly |= begin >= buffers[lastBuffer].begin && begin + bytes <= buffers[lastBuffer].end;
    if (readOnly && lastBuffer == buffers.size())
      fail("write of " + std::to_string(bytes) + " bytes into a read-only buffer");
  }
  if (lastBuffer == buffers.size())
    fail(std::string(write ? "write of " : "read of ") + std::to_string(bytes) +
         " bytes outside of every buffer");
  const Buffer &buffer = buffers[lastBuffer];
  if (launch.flags & LOWBIT_EMU_DEPENDENT)
    checkDependency(buffer);
  (write ? counts.global_write_bytes : counts.global_read_bytes) += bytes;
  if (!buffer.writable || !detectsRaces())
    return;
  switch (access & LOWBIT_EMU_ACCESS_MASK) {
  case LOWBIT_EMU_READ_ACCESS:
    return failIf(globalShadow.read(begin, bytes, runningThread));
  case LOWBIT_EMU_WRITE_ACCESS:
    return failIf(globalShadow.write(begin, bytes, runningThread));
  default:
    return failIf(globalShadow.atomic(begin, bytes, runningThread, access & LOWBIT_EMU_ORDERED));
  }
}

void Grid::check(const void *address, uint64_t bytes, uint32_t access, const void *site) {
  if (globalShadow.mustVerify())
    failIf(globalShadow.verify());
  auto *begin = static_cast<const char *>(address);
  uint32_t space = access & LOWBIT_EMU_SPACE_MASK;
  if (space == LOWBIT_EMU_FLAT) {
    if (thread().fiber.holds(begin))
      return;
    space = begin >= shared && begin < shared + launch.shared_bytes ? LOWBIT_EMU_SHARED
                                                                    : LOWBIT_EMU_GLOBAL;
  }
  if (space == LOWBIT_EMU_SHARED) {
    uint64_t offset = checkShared(begin, bytes);
    uint32_t what = access & LOWBIT_EMU_ACCESS_MASK;
    if (what == LOWBIT_EMU_READ_ACCESS)
      noteSharedRead(offset, bytes, Kind::Load);
    else if (what == LOWBIT_EMU_WRITE_ACCESS)
      noteSharedWrite(offset, bytes, Kind::Store);
    else
      noteSharedWrite(offset, bytes, Kind::Atomic);
    if (bytes <= 16)
      warps[runningThread / kLanes].accesses.add(
          site, what == LOWBIT_EMU_READ_ACCESS ? &counts.loads : &counts.stores,
          {offset, lane(), static_cast<uint32_t>(bytes)});
  } else {
    checkGlobal(begin, bytes, access);
  }
  if (!(access & LOWBIT_EMU_UNALIGNED) && (bytes & (bytes - 1)) == 0 &&
      reinterpret_cast<uintptr_t>(begin) % bytes)
    fail(std::string("misaligned ") + (space == LOWBIT_EMU_SHARED ? "shared memory " : "") +
         "access of " + std::to_string(bytes) + " bytes");
}
