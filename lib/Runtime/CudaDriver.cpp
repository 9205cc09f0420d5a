//===- CudaDriver.cpp - the CUDA driver, and one GPU's context -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "CudaDriver.h"

#include "Failure.h"

#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>

namespace lowbit::runtime::cuda {

/// As cuDriverGetVersion gives it.
static constexpr int wantedVersion = 12000;
static const char wayOut[] = "; --device emulator runs the bundle on the CPU, slowly";

static std::string versionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

/// The file's handle. Throws Failure.
static void *openDriver(std::string &file) {
  const char *given = std::getenv("LOWBIT_CUDA_DRIVER");
  file = given && *given ? given : "libcuda.so.1";
  if (void *handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL))
    return handle;
  fail(LOWBIT_UNAVAILABLE, "no CUDA driver: " + inQuotes(file) + " cannot be loaded" + wayOut);
}

/// cuGetProcAddress comes in two forms: one tells why there is nothing.
static void *findFunction(void *handle, const char *name) {
  using WithStatus = CUresult (*)(const char *, void **, int, uint64_t, int *);
  using Plain = CUresult (*)(const char *, void **, int, uint64_t);
  void *address = nullptr;
  if (auto find = reinterpret_cast<WithStatus>(dlsym(handle, "cuGetProcAddress_v2"))) {
    int status = 0;
    return find(name, &address, wantedVersion, 0, &status) == CUDA_SUCCESS ? address : nullptr;
  }
  if (auto find = reinterpret_cast<Plain>(dlsym(handle, "cuGetProcAddress")))
    return find(name, &address, wantedVersion, 0) == CUDA_SUCCESS ? address : nullptr;
  return nullptr;
}

static CudaApi load() {
  std::string file;
  void *handle = openDriver(file);
  auto version = reinterpret_cast<CUresult (*)(int *)>(dlsym(handle, "cuDriverGetVersion"));
  int found = 0;
  if (!version || version(&found) != CUDA_SUCCESS)
    fail(LOWBIT_UNAVAILABLE, inQuotes(file) + " is no CUDA driver" + wayOut);
  if (found < wantedVersion)
    fail(LOWBIT_UNAVAILABLE, "the CUDA driver is of version " + versionText(found) +
                                 ", needed is " + versionText(wantedVersion) +
                                 " or newer (525 on Linux)" + wayOut);
  CudaApi api;
#define LOWBIT_CUDA_FUNCTION(name, parameters)                                                     \
  api.name = reinterpret_cast<decltype(api.name)>(findFunction(handle, #name));                    \
  if (!api.name)                                                                                   \
    fail(LOWBIT_UNAVAILABLE, "the CUDA driver lacks " #name + std::string(wayOut));
  LOWBIT_CUDA_FUNCTIONS(LOWBIT_CUDA_FUNCTION)
#undef LOWBIT_CUDA_FUNCTION
  if (CUresult result = api.cuInit(0)) {
    const char *name = nullptr;
    api.cuGetErrorName(result, &name);
    fail(LOWBIT_UNAVAILABLE, "the CUDA driver finds no GPU that it can use: " +
                                 std::string(name ? name : "error") + wayOut);
  }
  return api;
}

const CudaApi &driver() {
  static const CudaApi api = load();
  return api;
}

std::string errorText(CUresult result) {
  const char *name = nullptr, *text = nullptr;
  if (driver().cuGetErrorName(result, &name) != CUDA_SUCCESS || !name)
    return "CUDA error " + std::to_string(result);
  driver().cuGetErrorString(result, &text);
  return std::string(name) + (text ? " (" + std::string(text) + ")" : "");
}

static lowbit_status statusOf(CUresult result) {
  switch (result) {
  case CUDA_ERROR_OUT_OF_MEMORY:
    return LOWBIT_NO_MEMORY;
  case CUDA_ERROR_NO_DEVICE:
  case CUDA_ERROR_INVALID_DEVICE:
  case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
  case CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE:
    return LOWBIT_UNAVAILABLE;
  case CUDA_ERROR_NO_BINARY_FOR_GPU:
  case CUDA_ERROR_INVALID_PTX:
  case CUDA_ERROR_JIT_COMPILER_NOT_FOUND:
  case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
    return LOWBIT_UNSUPPORTED;
  default:
    return LOWBIT_INTERNAL;
  }
}

void check(CUresult result, const std::string &doing) {
  if (result != CUDA_SUCCESS)
    fail(statusOf(result), "CUDA, while " + doing + ": " + errorText(result));
}

/// 80 for the first of "sm_80,sm_90a".
static int oldest(const std::string &architectures) {
  int least = 1000;
  for (size_t at = architectures.find("sm_"); at != std::string::npos;
       at = architectures.find("sm_", at + 3))
    least = std::min(least, std::atoi(architectures.c_str() + at + 3));
  return least;
}

Context::Context(int ordinal, const std::string &architectures) : ordinal(ordinal) {
  const CudaApi &api = driver();
  int count = 0;
  check(api.cuDeviceGetCount(&count), "counting GPUs");
  if (ordinal >= count)
    fail(LOWBIT_UNAVAILABLE,
         "there is no GPU cuda:" + std::to_string(ordinal) + ": the driver has " +
             (count == 0 ? "none" : std::to_string(count) + ", the first is cuda:0") +
             (count == 0 ? wayOut : ""));
  check(api.cuDeviceGet(&device, ordinal), "opening the GPU");
  char text[128] = "";
  check(api.cuDeviceGetName(text, sizeof text, device), "asking for the GPU's name");
  name = text;
  int major = 0, minor = 0;
  auto ask = [&](int *value, int attribute) {
    check(api.cuDeviceGetAttribute(value, attribute, device), "asking what the GPU can do");
  };
  ask(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  ask(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  ask(&sharedBytes, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  capability = 10 * major + minor;
  if (capability < oldest(architectures))
    fail(LOWBIT_UNSUPPORTED, "cuda:" + std::to_string(ordinal) + " (" + name +
                                 ") has compute capability " + std::to_string(major) + "." +
                                 std::to_string(minor) +
                                 ", older than all that the bundle has "
                                 "code for (" +
                                 architectures + ")" + wayOut);
  check(api.cuDevicePrimaryCtxRetain(&context, device), "making a context on " + name);
}

Context::~Context() {
  if (context)
    driver().cuDevicePrimaryCtxRelease(device);
}

Current::Current(const Context &context) {
  check(driver().cuCtxPushCurrent(context.context), "switching to the GPU");
}

Current::~Current() {
  CUcontext previous;
  driver().cuCtxPopCurrent(&previous);
}

} // namespace lowbit::runtime::cuda
