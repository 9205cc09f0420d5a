//===- Processor.cpp - what this processor can do ---------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Processor.h"

#include "Failure.h"

namespace lowbit::runtime {

bool processorHas(const std::string &name) {
#if defined(__x86_64__)
  // The builtin asks cpuid, and xgetbv for what the operating system saves.
  __builtin_cpu_init();
  if (name == "x86-64")
    return true;
  if (name == "x86-64-v2")
    return __builtin_cpu_supports("x86-64-v2");
  if (name == "x86-64-v3")
    return __builtin_cpu_supports("x86-64-v3");
  if (name == "x86-64-v4")
    return __builtin_cpu_supports("x86-64-v4");
  if (name == "avx2")
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (name == "avx512vnni")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
#endif
  return false;
}

static std::string list(const std::vector<std::string> &names) {
  std::string text;
  for (const std::string &name : names)
    text += (text.empty() ? "" : ", ") + inQuotes(name);
  return text;
}

size_t chooseIsa(const std::string &arch, const std::vector<std::string> &isa, const char *forced) {
  if (!processorHas(arch))
    fail(LOWBIT_UNSUPPORTED,
         "the bundle is made for processors of type " + inQuotes(arch) + ", which this one is not");
  for (size_t i = isa.size(); i-- > 0;) {
    if (forced && isa[i] == forced) {
      if (!processorHas(isa[i]))
        fail(LOWBIT_UNSUPPORTED, "this processor lacks the kernel variant " + inQuotes(isa[i]));
      return i;
    }
    if (!forced && processorHas(isa[i]))
      return i;
  }
  if (forced)
    fail(LOWBIT_UNSUPPORTED,
         "the bundle has no kernel variant " + inQuotes(forced) + "; it has " + list(isa));
  fail(LOWBIT_UNSUPPORTED, "this processor has none of the bundle's kernel variants: " + list(isa));
}

} // namespace lowbit::runtime
