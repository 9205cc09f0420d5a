//===- Arch.h - processors that bundles are made for ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_TARGET_CPU_ARCH_H
#define LOWBIT_TARGET_CPU_ARCH_H

#include "lowbit/Support/LLVM.h"
#include "llvm/ADT/StringRef.h"
#include <optional>
#include <string>
#include <vector>

namespace lowbit::cpu {

/// What `--arch` chooses.
struct Arch {
  std::string processor;             ///< LLVM's and the manifest's name: x86-64-v3 or x86-64-v4.
  std::vector<std::string> variants; ///< Kernel variants, least first; the runtime takes the last
                                     ///< that the processor has.
};

/// `x86-64-v3`, `x86-64-v4`, or `host`: the higher of the two that this machine has. Nothing for
/// another name.
std::optional<Arch> findArch(StringRef name);

/// The names that findArch takes, for messages.
inline constexpr StringLiteral kArchNames = "host, x86-64-v3 or x86-64-v4";

} // namespace lowbit::cpu

#endif // LOWBIT_TARGET_CPU_ARCH_H
