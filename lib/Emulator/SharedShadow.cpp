//===- SharedShadow.cpp - who last touched each byte of shared memory ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "SharedShadow.h"

using namespace lowbit::emulator;

const char *lowbit::emulator::nameOf(Kind kind) {
  switch (kind) {
  case Kind::Load:
    return "a load";
  case Kind::Store:
    return "a store";
  case Kind::Atomic:
    return "an atomic";
  case Kind::CopyAsync:
    return "cp.async";
  case Kind::LoadMatrix:
    return "ldmatrix";
  case Kind::StoreMatrix:
    return "stmatrix";
  case Kind::Barrier:
    return "an mbarrier";
  case Kind::BulkCopy:
    return "a bulk copy";
  case Kind::WarpgroupMma:
    return "wgmma";
  }
  return "";
}

/// Whether two of these may touch the same bytes unordered.
static bool synchronizes(Kind a, Kind b) {
  return a == b && (a == Kind::Atomic || a == Kind::Barrier);
}

std::string SharedShadow::conflict(uint64_t offset, uint32_t thread, Kind kind, uint32_t other,
                                   Kind otherKind, bool otherWrites) const {
  auto who = [&](uint32_t number) {
    return number == clocks.copyEngine() ? std::string("the copy engine")
                                         : "thread " + std::to_string(number);
  };
  return "race in shared memory: " + who(thread) + " touches byte " + std::to_string(offset) +
         " with " + nameOf(kind) + ", " + who(other) +
         (otherWrites ? " wrote it with " : " read it with ") + nameOf(otherKind) +
         ", and no barrier is between";
}

void SharedShadow::noteRead(Cell &cell, uint32_t thread, Kind kind) {
  uint32_t now = clocks.now(thread);
  if (!wasRead(cell) || cell.reader == thread ||
      (!cell.readSet && clocks.ordered(cell.reader, cell.readClock, thread))) {
    if (!wasRead(cell))
      cell.readSet = 0;
    cell.reader = static_cast<uint16_t>(thread);
    cell.readClock = now;
    cell.readKind = kind;
    return;
  }
  if (!cell.readSet) {
    if (numReadSets == readSets.size())
      readSets.emplace_back();
    readSets[numReadSets].few.clear();
    readSets[numReadSets].many.clear();
    cell.readSet = ++numReadSets;
  }
  ReadSet &set = readSets[cell.readSet - 1];
  if (!set.many.empty()) {
    set.many[thread] = now;
    return;
  }
  for (SharedRead &read : set.few)
    if (read.thread == thread) {
      read = {thread, now, kind};
      return;
    }
  set.few.push_back({thread, now, kind});
  if (set.few.size() > 16) {
    set.many.assign(clocks.copyEngine() + 1, 0);
    for (const SharedRead &read : set.few)
      set.many[read.thread] = read.clock;
    set.few.clear();
  }
}

std::string SharedShadow::checkRead(const Cell &cell, uint64_t offset, uint32_t thread,
                                    Kind kind) const {
  if (!written(cell))
    return "thread " + std::to_string(thread) + " reads byte " + std::to_string(offset) +
           " of shared memory with " + nameOf(kind) + ", which nothing has written";
  if (cell.landing)
    return "thread " + std::to_string(thread) + " reads byte " + std::to_string(offset) +
           " of shared memory with " + nameOf(kind) + ", which " + nameOf(cell.writeKind) +
           " of thread " + std::to_string(cell.writer) + " fills and nobody has waited for";
  if (!synchronizes(kind, cell.writeKind) && !clocks.ordered(cell.writer, cell.writeClock, thread))
    return conflict(offset, thread, kind, cell.writer, cell.writeKind, true);
  return "";
}

std::string SharedShadow::read(uint64_t offset, uint64_t bytes, uint32_t thread, Kind kind) {
  for (uint64_t at = offset; at < offset + bytes; ++at) {
    if (std::string error = checkRead(cells[at], at, thread, kind); !error.empty())
      return error;
    noteRead(cells[at], thread, kind);
  }
  return "";
}

std::string SharedShadow::checkWrite(const Cell &cell, uint64_t offset, uint32_t thread,
                                     Kind kind) const {
  if (written(cell)) {
    if (cell.landing)
      return "thread " + std::to_string(thread) + " writes byte " + std::to_string(offset) +
             " of shared memory with " + nameOf(kind) + ", which " + nameOf(cell.writeKind) +
             " of thread " + std::to_string(cell.writer) + " fills and nobody has waited for";
    if (!synchronizes(kind, cell.writeKind) &&
        !clocks.ordered(cell.writer, cell.writeClock, thread))
      return conflict(offset, thread, kind, cell.writer, cell.writeKind, true);
    if (cell.readers)
      return "thread " + std::to_string(thread) + " writes byte " + std::to_string(offset) +
             " of shared memory with " + nameOf(kind) + ", which an asynchronous " +
             "instruction still reads";
  }
  if (!wasRead(cell))
    return "";
  if (!synchronizes(kind, cell.readKind) && !clocks.ordered(cell.reader, cell.readClock, thread))
    return conflict(offset, thread, kind, cell.reader, cell.readKind, false);
  if (!cell.readSet)
    return "";
  const ReadSet &set = readSets[cell.readSet - 1];
  for (const SharedRead &read : set.few)
    if (!synchronizes(kind, read.kind) && !clocks.ordered(read.thread, read.clock, thread))
      return conflict(offset, thread, kind, read.thread, read.kind, false);
  for (uint32_t other = 0; other < set.many.size(); ++other)
    if (set.many[other] && !clocks.ordered(other, set.many[other], thread))
      return conflict(offset, thread, kind, other, cell.readKind, false);
  return "";
}

std::string SharedShadow::write(uint64_t offset, uint64_t bytes, uint32_t thread, Kind kind) {
  for (uint64_t at = offset; at < offset + bytes; ++at) {
    Cell &cell = cells[at];
    if (std::string error = checkWrite(cell, at, thread, kind); !error.empty())
      return error;
    cell.writer = static_cast<uint16_t>(thread);
    cell.writeClock = clocks.now(thread);
    cell.writeKind = kind;
    cell.landing = false;
    cell.readClock = 0;
    cell.readSet = 0;
    cell.readers = 0;
  }
  return "";
}

std::string SharedShadow::beginWrite(uint64_t offset, uint64_t bytes, uint32_t thread, Kind kind) {
  std::string error = write(offset, bytes, thread, kind);
  if (error.empty())
    for (uint64_t at = offset; at < offset + bytes; ++at)
      cells[at].landing = true;
  return error;
}

void SharedShadow::land(uint64_t offset, uint64_t bytes, uint32_t thread, Kind kind) {
  for (uint64_t at = offset; at < offset + bytes; ++at) {
    Cell &cell = cells[at];
    cell.writer = static_cast<uint16_t>(thread);
    cell.writeClock = clocks.now(thread);
    cell.writeKind = kind;
    cell.landing = false;
  }
}

std::string SharedShadow::beginRead(uint64_t offset, uint64_t bytes, uint32_t thread, Kind kind) {
  for (uint64_t at = offset; at < offset + bytes; ++at) {
    if (std::string error = checkRead(cells[at], at, thread, kind); !error.empty())
      return error;
    ++cells[at].readers;
  }
  return "";
}

void SharedShadow::endRead(uint64_t offset, uint64_t bytes, Kind kind) {
  for (uint64_t at = offset; at < offset + bytes; ++at) {
    if (cells[at].readers)
      --cells[at].readers;
    noteRead(cells[at], clocks.copyEngine(), kind);
  }
}

const SharedRead *SharedShadow::unfenced(uint64_t offset, uint64_t bytes,
                                         const VectorClock &fences) {
  for (uint64_t at = offset; at < offset + bytes; ++at) {
    const Cell &cell = cells[at];
    bool normal = cell.writeKind == Kind::Store || cell.writeKind == Kind::StoreMatrix ||
                  cell.writeKind == Kind::CopyAsync || cell.writeKind == Kind::Atomic;
    if (written(cell) && normal && cell.writeClock > fences[cell.writer]) {
      lastUnfenced = {cell.writer, cell.writeClock, cell.writeKind};
      return &lastUnfenced;
    }
  }
  return nullptr;
}
