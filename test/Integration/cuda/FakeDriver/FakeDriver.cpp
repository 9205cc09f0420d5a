//===- FakeDriver.cpp - a libcuda.so.1 that runs kernels in the emulator -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the runtime uses of the CUDA driver, for tests on machines without a GPU. It is as unkind as
// the API allows: nothing that was asked for is done before somebody waits for it, device memory is
// out of reach, fresh memory is rubbish, and what callers do wrong is an error and counted.
//
// LOWBIT_FAKE_CUDA_BUNDLES has the folders, separated by colons, of the bundles whose fatbins can
// be loaded: the emulator.so beside a fatbin is run in its stead. LOWBIT_FAKE_CUDA sets options:
// version=12000, devices=1, capability=90, memory=BYTES, shared=BYTES, fail_launch=N.
//
//===----------------------------------------------------------------------===//
#include "Work.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <iterator>

using namespace fakecuda;

static thread_local std::vector<CUcontext> current;
static char theContext;

#define EXPORT extern "C" __attribute__((visibility("default")))

/// Locks the driver for a call, which needs a context of this thread.
#define ENTER(needsContext)                                                                        \
  Driver &driver = Driver::get();                                                                  \
  std::lock_guard<std::mutex> lock(driver.mutex);                                                  \
  if (needsContext && current.empty())                                                             \
  return driver.protocolError(std::string(__func__) + " without a context", invalidContext)

EXPORT int64_t lowbit_fake_cuda_get(const char *what) {
  Driver &driver = Driver::get();
  std::lock_guard<std::mutex> lock(driver.mutex);
  if (!std::strcmp(what, "live_bytes"))
    return int64_t(driver.device.liveBytes());
  if (!std::strcmp(what, "live"))
    return int64_t(driver.device.liveBuffers() + driver.pinned.size() + driver.streams.size() +
                   driver.events.size() + driver.graphs.size() + driver.execs.size() +
                   driver.libraries.size()) +
           driver.retained;
  return driver.counts[what];
}

EXPORT void lowbit_fake_cuda_set(const char *what, int64_t value) {
  Driver &driver = Driver::get();
  std::lock_guard<std::mutex> lock(driver.mutex);
  driver.options[what] = value;
  driver.launches = 0;
}

EXPORT CUresult cuInit(unsigned) {
  return Driver::get().option("devices", 1) ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

EXPORT CUresult cuDriverGetVersion(int *version) {
  *version = int(Driver::get().option("version", 12000));
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGetErrorName(CUresult error, const char **name) {
  switch (error) {
#define NAME(value)                                                                                \
  case value:                                                                                      \
    *name = #value;                                                                                \
    return CUDA_SUCCESS
    NAME(CUDA_SUCCESS);
    NAME(CUDA_ERROR_INVALID_VALUE);
    NAME(CUDA_ERROR_OUT_OF_MEMORY);
    NAME(CUDA_ERROR_NO_DEVICE);
    NAME(CUDA_ERROR_INVALID_DEVICE);
    NAME(CUDA_ERROR_NO_BINARY_FOR_GPU);
    NAME(CUDA_ERROR_NOT_FOUND);
    NAME(CUDA_ERROR_ILLEGAL_ADDRESS);
    NAME(CUDA_ERROR_LAUNCH_FAILED);
#undef NAME
  }
  *name = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuGetErrorString(CUresult error, const char **text) {
  *text = error == CUDA_ERROR_OUT_OF_MEMORY     ? "out of memory"
          : error == CUDA_ERROR_ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
                                                : "an error of the fake driver";
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int *count) {
  *count = int(Driver::get().option("devices", 1));
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  *device = ordinal;
  return ordinal < Driver::get().option("devices", 1) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

EXPORT CUresult cuDeviceGetName(char *name, int length, CUdevice) {
  std::strncpy(name, "Fake GPU", size_t(length));
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice) {
  auto capability = int(Driver::get().option("capability", 90));
  if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
    *value = capability / 10;
  else if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
    *value = capability % 10;
  else if (attribute == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
    *value = int(Driver::get().option("shared", 227 << 10));
  else
    return CUDA_ERROR_INVALID_VALUE;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
  ENTER(false);
  ++driver.retained;
  *context = reinterpret_cast<CUcontext>(&theContext);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice) {
  ENTER(false);
  if (driver.retained-- <= 0)
    return driver.protocolError("a context is released once too often");
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPushCurrent(CUcontext context) {
  ENTER(false);
  if (driver.retained <= 0 || context != reinterpret_cast<CUcontext>(&theContext))
    return driver.protocolError("a context that nobody has", invalidContext);
  current.push_back(context);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPopCurrent(CUcontext *context) {
  ENTER(true);
  *context = current.back();
  current.pop_back();
  return CUDA_SUCCESS;
}

static std::string readFile(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

/// The folder whose kernels.fatbin has these bytes.
static std::string findBundle(const void *code) {
  struct {
    uint32_t magic;
    uint16_t version, headerBytes;
    uint64_t bytes;
  } header;
  std::memcpy(&header, code, sizeof header);
  if (header.magic != 0xba55ed50)
    return "";
  const char *text = std::getenv("LOWBIT_FAKE_CUDA_BUNDLES");
  std::string rest = text ? text : "";
  while (!rest.empty()) {
    std::string folder = rest.substr(0, rest.find(':'));
    rest.erase(0, folder.size() + 1);
    std::string fatbin = readFile(folder + "/kernels.fatbin");
    if (fatbin.size() == header.headerBytes + header.bytes &&
        !std::memcmp(fatbin.data(), code, fatbin.size()))
      return folder;
  }
  return "";
}

EXPORT CUresult cuLibraryLoadData(CUlibrary *out, const void *code, int *, void **, unsigned, int *,
                                  void **, unsigned) {
  ENTER(true);
  std::string folder = findBundle(code);
  if (folder.empty())
    return driver.protocolError("no folder of LOWBIT_FAKE_CUDA_BUNDLES has this fatbin",
                                invalidImage);
  if (driver.option("capability", 90) < 80)
    return CUDA_ERROR_NO_BINARY_FOR_GPU;
  auto *library = new Library;
  std::string file = folder + "/emulator.so";
  library->code = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library->code || lowbit_emulator_open(file.c_str(), &library->emulator) != LOWBIT_OK) {
    delete library;
    return driver.protocolError(file + " cannot be loaded", invalidImage);
  }
  driver.libraries.insert(library);
  *out = reinterpret_cast<CUlibrary>(library);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuLibraryUnload(CUlibrary handle) {
  ENTER(true);
  auto *library = reinterpret_cast<Library *>(handle);
  if (!driver.libraries.erase(library))
    return driver.protocolError("an unknown library is unloaded");
  driver.drain();
  lowbit_emulator_close(library->emulator);
  dlclose(library->code);
  delete library;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary handle, const char *name) {
  ENTER(true);
  auto *library = reinterpret_cast<Library *>(handle);
  auto *count = static_cast<const int32_t *>(
      dlsym(library->code, (std::string("lowbit_emu_parameters_") + name).c_str()));
  if (!count)
    return CUDA_ERROR_NOT_FOUND;
  auto &function = library->functions[name];
  if (!function)
    function.reset(new Function{library->emulator, name, size_t(*count)});
  *kernel = reinterpret_cast<CUkernel>(function.get());
  return CUDA_SUCCESS;
}

EXPORT CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
  ENTER(true);
  *function = reinterpret_cast<CUfunction>(kernel);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  ENTER(true);
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 ||
      value > driver.option("shared", 227 << 10))
    return driver.protocolError("a function attribute that cannot be");
  reinterpret_cast<Function *>(function)->sharedLimit = size_t(value);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemAlloc(CUdeviceptr *address, size_t bytes) {
  ENTER(true);
  if (bytes == 0)
    return driver.protocolError("an allocation of no bytes");
  auto limit = size_t(driver.option("memory", int64_t(1) << 38));
  if (bytes > limit - std::min(limit, driver.device.liveBytes()))
    return CUDA_ERROR_OUT_OF_MEMORY;
  ++driver.counts["allocations"];
  *address = CUdeviceptr(reinterpret_cast<uintptr_t>(driver.device.allocate(bytes)));
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemFree(CUdeviceptr address) {
  ENTER(true);
  driver.drain();
  if (!driver.device.free(reinterpret_cast<void *>(address)))
    return driver.protocolError("memory is freed that is not allocated");
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
  ENTER(true);
  ++driver.counts["allocations"];
  *memory = std::malloc(bytes);
  std::memset(*memory, 0xa5, bytes);
  driver.pinned[static_cast<char *>(*memory)] = bytes;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemFreeHost(void *memory) {
  ENTER(true);
  driver.drain();
  if (!driver.pinned.erase(static_cast<char *>(memory)))
    return driver.protocolError("pinned memory is freed that is not allocated");
  std::free(memory);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuPointerGetAttribute(void *value, int attribute, CUdeviceptr address) {
  ENTER(true);
  if (attribute != CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL ||
      !driver.device.find(reinterpret_cast<void *>(address)).begin)
    return CUDA_ERROR_INVALID_VALUE;
  *static_cast<int *>(value) = 0;
  return CUDA_SUCCESS;
}

static Work copyOf(void *to, const void *from, size_t bytes) {
  Work work;
  work.to = to;
  work.from = from;
  work.bytes = bytes;
  return work;
}

EXPORT CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  ENTER(true);
  Work work = copyOf(reinterpret_cast<void *>(to), from, bytes);
  if (!driver.device.owns(work.to) || driver.device.owns(from))
    return driver.protocolError("a copy to the device that does not go there");
  auto *bytesFrom = static_cast<const char *>(from);
  if (driver.isPinned(from, bytes))
    work.pinned = from;
  else
    work.taken = std::make_shared<std::vector<char>>(bytesFrom, bytesFrom + bytes);
  driver.counts["bytes_to_device"] += int64_t(bytes);
  return driver.add(stream, std::move(work));
}

EXPORT CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  ENTER(true);
  Work work = copyOf(to, reinterpret_cast<void *>(from), bytes);
  if (driver.device.owns(to) || !driver.device.owns(work.from))
    return driver.protocolError("a copy to the host that does not go there");
  if (driver.isPinned(to, bytes))
    work.pinned = to;
  driver.counts["bytes_to_host"] += int64_t(bytes);
  return driver.add(stream, std::move(work));
}

EXPORT CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  ENTER(true);
  Work work = copyOf(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), bytes);
  if (!driver.device.owns(work.to) || !driver.device.owns(work.from))
    return driver.protocolError("a copy on the device that leaves it");
  return driver.add(stream, std::move(work));
}

EXPORT CUresult cuStreamCreate(CUstream *out, unsigned) {
  ENTER(true);
  auto *stream = new Stream;
  driver.streams.insert(stream);
  *out = reinterpret_cast<CUstream>(stream);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamDestroy(CUstream handle) {
  ENTER(true);
  auto *stream = reinterpret_cast<Stream *>(handle);
  if (!driver.streams.count(stream))
    return driver.protocolError("an unknown stream is destroyed", invalidHandle);
  driver.drain();
  driver.streams.erase(stream);
  delete stream;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamSynchronize(CUstream handle) {
  ENTER(true);
  Stream *stream = driver.find(handle);
  if (!stream)
    return driver.protocolError("a stream that is none", invalidHandle);
  return driver.advance(*stream, stream->asked);
}

EXPORT CUresult cuEventCreate(CUevent *out, unsigned) {
  ENTER(true);
  auto *event = new Event;
  driver.events.insert(event);
  *out = reinterpret_cast<CUevent>(event);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuEventDestroy(CUevent handle) {
  ENTER(true);
  auto *event = reinterpret_cast<Event *>(handle);
  if (!driver.events.erase(event))
    return driver.protocolError("an unknown event is destroyed", invalidHandle);
  delete event;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuEventRecord(CUevent handle, CUstream on) {
  ENTER(true);
  auto *event = reinterpret_cast<Event *>(handle);
  Stream *stream = driver.find(on);
  if (!stream || !driver.events.count(event))
    return driver.protocolError("an event or stream that is none", invalidHandle);
  *event = {stream, stream->asked};
  return driver.sticky;
}

EXPORT CUresult cuEventSynchronize(CUevent handle) {
  ENTER(true);
  auto *event = reinterpret_cast<Event *>(handle);
  if (!event->stream)
    return CUDA_SUCCESS;
  return driver.advance(*event->stream, event->position);
}

EXPORT CUresult cuEventElapsedTime(float *milliseconds, CUevent, CUevent) {
  *milliseconds = 0;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamWaitEvent(CUstream stream, CUevent handle, unsigned) {
  ENTER(true);
  auto *event = reinterpret_cast<Event *>(handle);
  if (!event->stream)
    return CUDA_SUCCESS;
  Work work;
  work.kind = Work::Wait;
  work.other = event->stream;
  work.position = event->position;
  return driver.add(stream, std::move(work));
}

static Work launchOf(const CUDA_KERNEL_NODE_PARAMS &node) {
  Work work;
  work.kind = Work::Launch;
  work.function = reinterpret_cast<Function *>(node.func);
  unsigned grid[] = {node.gridDimX, node.gridDimY, node.gridDimZ};
  unsigned block[] = {node.blockDimX, node.blockDimY, node.blockDimZ};
  std::memcpy(work.grid, grid, sizeof grid);
  std::memcpy(work.block, block, sizeof block);
  work.sharedBytes = node.sharedMemBytes;
  for (size_t i = 0; i < work.function->parameters; ++i) {
    int64_t value;
    std::memcpy(&value, node.kernelParams[i], sizeof value);
    work.values.push_back(value);
  }
  return work;
}

EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ,
                               unsigned blockX, unsigned blockY, unsigned blockZ,
                               unsigned sharedBytes, CUstream stream, void **parameters, void **) {
  ENTER(true);
  return driver.add(stream, launchOf({function, gridX, gridY, gridZ, blockX, blockY, blockZ,
                                      sharedBytes, parameters, nullptr, nullptr, nullptr}));
}

EXPORT CUresult cuGraphCreate(CUgraph *out, unsigned) {
  ENTER(true);
  auto *graph = new Graph;
  driver.graphs.insert(graph);
  *out = reinterpret_cast<CUgraph>(graph);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphDestroy(CUgraph handle) {
  ENTER(true);
  auto *graph = reinterpret_cast<Graph *>(handle);
  if (!driver.graphs.erase(graph))
    return driver.protocolError("an unknown graph is destroyed", invalidHandle);
  delete graph;
  return CUDA_SUCCESS;
}

static CUresult addNode(Driver &driver, CUgraphNode *out, CUgraph handle, const CUgraphNode *before,
                        size_t count, Work work) {
  if (CUresult result = driver.verify(work))
    return result;
  auto *graph = reinterpret_cast<Graph *>(handle);
  auto node = std::make_unique<Node>();
  node->work = std::move(work);
  for (size_t i = 0; i < count; ++i)
    node->dependencies.push_back(reinterpret_cast<Node *>(before[i]));
  *out = reinterpret_cast<CUgraphNode>(node.get());
  graph->nodes.push_back(std::move(node));
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphAddKernelNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *before,
                                     size_t count, const CUDA_KERNEL_NODE_PARAMS *parameters) {
  ENTER(true);
  return addNode(driver, node, graph, before, count, launchOf(*parameters));
}

static Work copyOf(const CUDA_MEMCPY3D &copy) {
  return copyOf(reinterpret_cast<void *>(copy.dstDevice + copy.dstXInBytes),
                reinterpret_cast<const void *>(copy.srcDevice + copy.srcXInBytes),
                copy.WidthInBytes * copy.Height * copy.Depth);
}

EXPORT CUresult cuGraphAddMemcpyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *before,
                                     size_t count, const CUDA_MEMCPY3D *copy, CUcontext context) {
  ENTER(true);
  if (!context || copy->srcMemoryType != CU_MEMORYTYPE_DEVICE ||
      copy->dstMemoryType != CU_MEMORYTYPE_DEVICE || copy->Height != 1 || copy->Depth != 1)
    return driver.protocolError("a copy node of a kind that is not used here");
  return addNode(driver, node, graph, before, count, copyOf(*copy));
}

/// Of the nodes that may come next, the one added last.
EXPORT CUresult cuGraphInstantiate(CUgraphExec *out, CUgraph handle, unsigned long long) {
  ENTER(true);
  auto *graph = reinterpret_cast<Graph *>(handle);
  auto *exec = new Exec;
  while (exec->order.size() < graph->nodes.size()) {
    const Node *next = nullptr;
    for (const auto &node : graph->nodes) {
      bool ready = !exec->work.count(node.get());
      for (const Node *dependency : node->dependencies)
        ready &= exec->work.count(dependency) != 0;
      if (ready)
        next = node.get();
    }
    if (!next) {
      delete exec;
      return driver.protocolError("a graph with a cycle");
    }
    exec->order.push_back(next);
    exec->work[next] = next->work;
  }
  ++driver.counts["graphs"];
  driver.execs.insert(exec);
  *out = reinterpret_cast<CUgraphExec>(exec);
  return CUDA_SUCCESS;
}

static CUresult setNode(Driver &driver, CUgraphExec handle, CUgraphNode node, Work work) {
  auto *exec = reinterpret_cast<Exec *>(handle);
  auto found = exec->work.find(reinterpret_cast<Node *>(node));
  if (!driver.execs.count(exec) || found == exec->work.end() || found->second.kind != work.kind ||
      found->second.function != work.function)
    return driver.protocolError("parameters of a node that is not like this");
  if (CUresult result = driver.verify(work))
    return result;
  ++driver.counts["node_updates"];
  found->second = std::move(work);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                               const CUDA_KERNEL_NODE_PARAMS *parameters) {
  ENTER(true);
  return setNode(driver, exec, node, launchOf(*parameters));
}

EXPORT CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                               const CUDA_MEMCPY3D *copy, CUcontext) {
  ENTER(true);
  return setNode(driver, exec, node, copyOf(*copy));
}

EXPORT CUresult cuGraphExecDestroy(CUgraphExec handle) {
  ENTER(true);
  auto *exec = reinterpret_cast<Exec *>(handle);
  if (!driver.execs.erase(exec))
    return driver.protocolError("an unknown graph is destroyed", invalidHandle);
  delete exec;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream) {
  ENTER(true);
  auto *exec = reinterpret_cast<Exec *>(handle);
  if (!driver.execs.count(exec))
    return driver.protocolError("an unknown graph is launched", invalidHandle);
  ++driver.counts["graph_launches"];
  for (const Node *node : exec->order)
    if (CUresult result = driver.add(stream, exec->work[node]))
      return result;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGetProcAddress_v2(const char *name, void **address, int version, uint64_t,
                                    int *status) {
  static void *self = [] {
    Dl_info info;
    dladdr(reinterpret_cast<const void *>(&cuInit), &info);
    return dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  }();
  *address = version <= Driver::get().option("version", 12000) ? dlsym(self, name) : nullptr;
  *status = *address ? 0 : 1;
  return *address ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
