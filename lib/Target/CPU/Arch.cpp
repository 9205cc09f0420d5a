//===- Arch.cpp - processors that bundles are made for ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/CPU/Arch.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"

using namespace lowbit;

std::optional<cpu::Arch> cpu::findArch(StringRef name) {
  if (name == "host") {
    llvm::StringMap<bool> features = llvm::sys::getHostCPUFeatures();
    bool v4 = true;
    for (StringRef feature : {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
      v4 &= features.lookup(feature);
    name = v4 ? "x86-64-v4" : "x86-64-v3";
  }
  // Kernels without the dot product instruction stay: v4 does not promise it.
  if (name == "x86-64-v3" || name == "x86-64-v4")
    return Arch{name.str(), {"avx2", "avx512vnni"}};
  return std::nullopt;
}
