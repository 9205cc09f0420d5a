//===- GlobalShadow.cpp - who last touched each byte that a launch may write ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "GlobalShadow.h"

using namespace lowbit::emulator;

GlobalShadow::Cell &GlobalShadow::cell(const char *address) {
  auto at = reinterpret_cast<uintptr_t>(address);
  if (at / kPage != lastNumber) {
    std::unique_ptr<Page> &page = pages[at / kPage];
    if (!page)
      page = std::make_unique<Page>();
    lastPage = page.get();
    lastNumber = at / kPage;
  }
  return lastPage->cells[at % kPage];
}

bool GlobalShadow::knows(uint32_t thread, uint32_t otherBlock, uint32_t other,
                         uint32_t clock) const {
  if (otherBlock == block)
    return clocks.ordered(other, clock, thread);
  auto found = acquired.find(otherBlock);
  if (found == acquired.end())
    return false;
  for (const Acquired &entry : found->second)
    if (clock <= entry.clock[other] && clocks.ordered(entry.thread, entry.when, thread))
      return true;
  return false;
}

std::string GlobalShadow::conflict(const char *, uint32_t thread, const char *does,
                                   uint32_t otherBlock, uint32_t other, const char *did) const {
  std::string who = otherBlock == block ? "thread " + std::to_string(other) + " of the same block"
                                        : "thread " + std::to_string(other) + " of block " +
                                              std::to_string(otherBlock - 1);
  return "race in global memory: thread " + std::to_string(thread) + " of block " +
         std::to_string(block - 1) + " " + does + " a byte that " + who + " " + did +
         ", and nothing puts them in order";
}

std::string GlobalShadow::read(const char *address, uint64_t bytes, uint32_t thread) {
  for (const char *at = address; at < address + bytes; ++at) {
    Cell &c = cell(at);
    if (c.writeBlock && !knows(thread, c.writeBlock, c.writer, c.writeClock))
      return conflict(at, thread, "reads", c.writeBlock, c.writer,
                      c.writeKind == Kind::Atomic ? "changed by an atomic" : "wrote");
    if (c.readBlock && c.readBlock != block)
      c.manyBlocksRead = true;
    c.readBlock = block;
    c.reader = static_cast<uint16_t>(thread);
    c.readClock = clocks.now(thread);
  }
  return "";
}

std::string GlobalShadow::checkReaders(const Cell &c, const char *address, uint32_t thread) const {
  if (c.readBlock && (c.manyBlocksRead || !knows(thread, c.readBlock, c.reader, c.readClock)))
    return conflict(address, thread, "writes", c.readBlock, c.reader, "read");
  return "";
}

std::string GlobalShadow::write(const char *address, uint64_t bytes, uint32_t thread) {
  for (const char *at = address; at < address + bytes; ++at) {
    Cell &c = cell(at);
    if (std::string error = checkReaders(c, at, thread); !error.empty())
      return error;
    if (c.writeBlock && !knows(thread, c.writeBlock, c.writer, c.writeClock)) {
      std::string message =
          conflict(at, thread, "writes", c.writeBlock, c.writer,
                   c.writeKind == Kind::Atomic ? "changed by an atomic" : "wrote");
      if (c.writeKind == Kind::Atomic)
        return message;
      suspects.push_back({at, *at, std::move(message)}); // The same value would do no harm.
    }
    c.writeBlock = block;
    c.writer = static_cast<uint16_t>(thread);
    c.writeClock = clocks.now(thread);
    c.writeKind = Kind::Store;
    c.readBlock = 0;
    c.manyBlocksRead = false;
  }
  return "";
}

std::string GlobalShadow::verify() {
  std::string error;
  for (const Suspect &suspect : suspects)
    if (*suspect.address != suspect.before && error.empty())
      error = suspect.message;
  suspects.clear();
  return error;
}

std::string GlobalShadow::atomic(const char *address, uint64_t bytes, uint32_t thread,
                                 bool ordered) {
  for (const char *at = address; at < address + bytes; ++at) {
    Cell &c = cell(at);
    if (std::string error = checkReaders(c, at, thread); !error.empty())
      return error;
    if (c.writeBlock && c.writeKind != Kind::Atomic &&
        !knows(thread, c.writeBlock, c.writer, c.writeClock))
      return conflict(at, thread, "changes by an atomic", c.writeBlock, c.writer, "wrote");
    c.writeBlock = block;
    c.writer = static_cast<uint16_t>(thread);
    c.writeClock = clocks.now(thread);
    c.writeKind = Kind::Atomic;
    c.readBlock = 0;
    c.manyBlocksRead = false;
  }
  // What was published here is known from now on.
  auto &published = releases[address];
  for (const auto &[other, clock] : published) {
    if (other == block)
      clocks.acquire(thread, clock);
    else
      acquired[other].push_back({thread, clocks.now(thread), clock});
  }
  // And what this thread knows is published: all with release semantics, else what came before its
  // last fence.
  VectorClock mine;
  if (ordered)
    mine = clocks.release(thread);
  else if (auto found = fences.find(thread); found != fences.end())
    mine = found->second;
  if (!mine.empty())
    Clocks::merge(published[block], mine);
  if (ordered)
    for (const auto &[other, entries] : acquired)
      for (const Acquired &entry : entries)
        if (clocks.ordered(entry.thread, entry.when, thread))
          Clocks::merge(published[other], entry.clock);
  return "";
}
