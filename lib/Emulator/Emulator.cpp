//===- Emulator.cpp - the C interface ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit-c/Emulator.h"
#include "Grid.h"
#include "Instructions.h"
#include "TensorMap.h"
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <dlfcn.h>
#include <new>
#include <string>
#include <vector>

using namespace lowbit::emulator;

struct lowbit_emulator {
  void *library;
};

static thread_local std::string lastError;

static lowbit_status failWith(lowbit_status status, std::string message) {
  lastError = std::move(message);
  return status;
}

/// What sm_90 offers to a block, the largest of all.
static constexpr uint32_t kMostSharedBytes = 227 * 1024;

static void report(lowbit_emu_statistics counts, lowbit_emu_statistics *out) {
  if (!out)
    return;
  counts.size = out->size;
  std::memcpy(out, &counts, std::min<size_t>(out->size, sizeof counts));
}

extern "C" {

const char *lowbit_emulator_last_error(void) { return lastError.c_str(); }

lowbit_status lowbit_emulator_open(const char *path, lowbit_emulator **out) {
  if (!out)
    return failWith(LOWBIT_INVALID, "out is NULL");
  *out = nullptr;
  if (!path)
    return failWith(LOWBIT_INVALID, "path is NULL");
  if (!__builtin_cpu_supports("x86-64-v3"))
    return failWith(LOWBIT_UNSUPPORTED, "emulated kernels need an x86-64-v3 processor");
  // A path without a slash would be looked up in the system's library folders.
  std::string file = path;
  if (file.find('/') == std::string::npos)
    file = "./" + file;
  void *library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return failWith(LOWBIT_INVALID, std::string("cannot load emulated kernels: ") + dlerror());
  auto *slot = static_cast<const lowbit_emu_table_t **>(dlsym(library, "lowbit_emu_table"));
  auto *abi = static_cast<const int64_t *>(dlsym(library, "lowbit_emu_abi"));
  if (!slot || !abi || *abi != LOWBIT_EMU_ABI) {
    std::string why =
        slot && abi ? "was made for another version of the emulator" : "holds no emulated kernels";
    dlclose(library);
    return failWith(slot && abi ? LOWBIT_UNSUPPORTED : LOWBIT_INVALID, file + " " + why);
  }
  *slot = &instructionTable();
  *out = new (std::nothrow) lowbit_emulator{library};
  if (!*out) {
    dlclose(library);
    return failWith(LOWBIT_NO_MEMORY, "out of memory");
  }
  return LOWBIT_OK;
}

void lowbit_emulator_close(lowbit_emulator *emulator) {
  if (!emulator)
    return;
  dlclose(emulator->library);
  delete emulator;
}

lowbit_status lowbit_emulator_run(lowbit_emulator *emulator, const char *name,
                                  const lowbit_emu_launch *given,
                                  const lowbit_emu_argument *arguments, size_t count) {
  if (!emulator || !name || !given || (count && !arguments))
    return failWith(LOWBIT_INVALID, "a NULL argument");
  if (given->size < offsetof(lowbit_emu_launch, flags))
    return failWith(LOWBIT_INVALID, "the size of the launch is not set");
  lowbit_emu_launch launch = {};
  std::memcpy(&launch, given, std::min<size_t>(given->size, sizeof launch));
  if (launch.flags & ~uint32_t(LOWBIT_EMU_DEPENDENT | LOWBIT_EMU_NO_RACES))
    return failWith(LOWBIT_UNSUPPORTED, "flags of a later version of the emulator");
  if (launch.shared_bytes > kMostSharedBytes)
    return failWith(LOWBIT_INVALID, "a block has at most " + std::to_string(kMostSharedBytes) +
                                        " bytes of shared memory, not " +
                                        std::to_string(launch.shared_bytes));
  auto *kernel = reinterpret_cast<Kernel>(
      dlsym(emulator->library, (std::string("lowbit_emu_kernel_") + name).c_str()));
  auto *expected = static_cast<const int32_t *>(
      dlsym(emulator->library, (std::string("lowbit_emu_parameters_") + name).c_str()));
  if (!kernel || !expected)
    return failWith(LOWBIT_INVALID, std::string("no kernel '") + name + "'");
  if (count != size_t(*expected))
    return failWith(LOWBIT_INVALID, std::string("kernel '") + name + "' takes " +
                                        std::to_string(*expected) + " arguments, not " +
                                        std::to_string(count));
  uint64_t threads = 1;
  for (uint32_t size : launch.block)
    threads *= size;
  if (threads == 0 || threads > 1024)
    return failWith(LOWBIT_INVALID,
                    "a block has 1 to 1024 threads, not " + std::to_string(threads));
  std::vector<void *> parameters;
  std::vector<int64_t> values(count);
  std::vector<Buffer> buffers;
  for (size_t i = 0; i < count; ++i) {
    const lowbit_emu_argument &argument = arguments[i];
    if (argument.kind >= LOWBIT_EMU_READ && argument.kind <= LOWBIT_EMU_CONSTANT) {
      auto *begin = static_cast<const char *>(argument.data);
      buffers.push_back({begin, begin + argument.bytes, argument.kind == LOWBIT_EMU_READ_WRITE,
                         argument.kind == LOWBIT_EMU_CONSTANT});
      values[i] = static_cast<int64_t>(reinterpret_cast<uintptr_t>(begin));
    } else if (argument.kind == LOWBIT_EMU_TENSOR_MAP) {
      auto *map = static_cast<const lowbit_emu_tensor_map *>(argument.data);
      if (std::string error = verifyTensorMap(*map); !error.empty())
        return failWith(LOWBIT_INVALID, "argument " + std::to_string(i) + ": " + error);
      auto *begin = static_cast<const char *>(map->base);
      buffers.push_back({begin, begin + tensorBytes(*map), argument.value == LOWBIT_EMU_READ_WRITE,
                         argument.value == LOWBIT_EMU_CONSTANT});
      parameters.push_back(argument.data);
      continue;
    } else if (argument.kind >= LOWBIT_EMU_I32 && argument.kind <= LOWBIT_EMU_F32) {
      values[i] = argument.value; // Little-endian: the low bytes come first.
    } else {
      return failWith(LOWBIT_INVALID, "argument " + std::to_string(i) + " is of no known kind");
    }
    parameters.push_back(&values[i]);
  }
  // Grid wants the writable ones first.
  std::vector<Buffer> ordered;
  for (bool writable : {true, false})
    for (const Buffer &buffer : buffers)
      if (buffer.writable == writable)
        ordered.push_back(buffer);
  try {
    Grid grid(kernel, parameters.data(), launch, std::move(ordered));
    std::string error = grid.run();
    report(grid.statistics(), launch.statistics);
    if (!error.empty())
      return failWith(LOWBIT_INTERNAL, std::string("kernel '") + name + "': " + error);
  } catch (const std::bad_alloc &) {
    return failWith(LOWBIT_NO_MEMORY, "out of memory");
  }
  return LOWBIT_OK;
}

} // extern "C"
