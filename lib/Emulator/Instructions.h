//===- Instructions.h - what device instructions do ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_EMULATOR_INSTRUCTIONS_H
#define LOWBIT_LIB_EMULATOR_INSTRUCTIONS_H

#include "lowbit/Emulator/Table.h"

namespace lowbit::emulator {
/// Its functions act on the launch that the calling thread is in (Grid::current).
const lowbit_emu_table_t &instructionTable();
} // namespace lowbit::emulator

#endif // LOWBIT_LIB_EMULATOR_INSTRUCTIONS_H
