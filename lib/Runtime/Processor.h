//===- Processor.h - what this processor can do -----------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_PROCESSOR_H
#define LOWBIT_LIB_RUNTIME_PROCESSOR_H

#include <cstddef>
#include <string>
#include <vector>

namespace lowbit::runtime {

/// Whether this processor (and the operating system) has a kernel variant named in a manifest, or
/// an architecture level such as "x86-64-v3". False for names that this runtime does not know.
bool processorHas(const std::string &name);

/// The index into `isa` (least preferred first) to use: the last that the processor has, or, where
/// `forced` is not null, the one of that name. Throws Failure (LOWBIT_UNSUPPORTED).
size_t chooseIsa(const std::string &arch, const std::vector<std::string> &isa, const char *forced);

} // namespace lowbit::runtime

#endif // LOWBIT_LIB_RUNTIME_PROCESSOR_H
