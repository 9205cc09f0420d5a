//===- CudaApi.h - what this runtime uses of the CUDA driver API -*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Declared here as of CUDA 12.0, so that building needs no CUDA. Layouts and numbers are ABI of
// libcuda.so.1 and do not change.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_RUNTIME_CUDAAPI_H
#define LOWBIT_LIB_RUNTIME_CUDAAPI_H

#include <cstddef>
#include <cstdint>

namespace lowbit::runtime::cuda {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = uint64_t;
using CUcontext = struct CUctx_st *;
using CUlibrary = struct CUlib_st *;
using CUkernel = struct CUkern_st *;
using CUfunction = struct CUfunc_st *;
using CUstream = struct CUstream_st *;
using CUevent = struct CUevent_st *;
using CUgraph = struct CUgraph_st *;
using CUgraphNode = struct CUgraphNode_st *;
using CUgraphExec = struct CUgraphExec_st *;

enum : CUresult {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
  CUDA_ERROR_INVALID_PTX = 218,
  CUDA_ERROR_JIT_COMPILER_NOT_FOUND = 221,
  CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_LAUNCH_FAILED = 719,
  CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803,
  CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE = 804
};

enum : int {
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,
  CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
  CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9,
  CU_MEMORYTYPE_DEVICE = 2,
  CU_STREAM_NON_BLOCKING = 1,
  CU_EVENT_DEFAULT = 0,
  CU_EVENT_DISABLE_TIMING = 2
};

/// The stream that work without a stream goes to.
inline CUstream legacyStream() { return reinterpret_cast<CUstream>(uintptr_t(1)); }

struct CUDA_KERNEL_NODE_PARAMS {
  CUfunction func;
  unsigned gridDimX, gridDimY, gridDimZ;
  unsigned blockDimX, blockDimY, blockDimZ;
  unsigned sharedMemBytes;
  void **kernelParams;
  void **extra;
  CUkernel kern;
  CUcontext ctx;
};

struct CUDA_MEMCPY3D {
  size_t srcXInBytes, srcY, srcZ, srcLOD;
  int srcMemoryType;
  const void *srcHost;
  CUdeviceptr srcDevice;
  void *srcArray, *reserved0;
  size_t srcPitch, srcHeight;
  size_t dstXInBytes, dstY, dstZ, dstLOD;
  int dstMemoryType;
  void *dstHost;
  CUdeviceptr dstDevice;
  void *dstArray, *reserved1;
  size_t dstPitch, dstHeight;
  size_t WidthInBytes, Height, Depth;
};

/// LOWBIT_CUDA_FUNCTION(name, parameters) for every function that is used, all of which return a
/// CUresult. The parameters are those of CUDA 12.0.
#define LOWBIT_CUDA_FUNCTIONS(F)                                                                   \
  F(cuInit, (unsigned flags))                                                                      \
  F(cuDriverGetVersion, (int *version))                                                            \
  F(cuGetErrorName, (CUresult error, const char **name))                                           \
  F(cuGetErrorString, (CUresult error, const char **text))                                         \
  F(cuDeviceGetCount, (int *count))                                                                \
  F(cuDeviceGet, (CUdevice * device, int ordinal))                                                 \
  F(cuDeviceGetName, (char *name, int length, CUdevice device))                                    \
  F(cuDeviceGetAttribute, (int *value, int attribute, CUdevice device))                            \
  F(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                              \
  F(cuDevicePrimaryCtxRelease, (CUdevice device))                                                  \
  F(cuCtxPushCurrent, (CUcontext context))                                                         \
  F(cuCtxPopCurrent, (CUcontext * context))                                                        \
  F(cuLibraryLoadData, (CUlibrary * library, const void *code, int *jitOptions,                    \
                        void **jitValues, unsigned numJitOptions, int *options, void **values,     \
                        unsigned numOptions))                                                      \
  F(cuLibraryUnload, (CUlibrary library))                                                          \
  F(cuLibraryGetKernel, (CUkernel * kernel, CUlibrary library, const char *name))                  \
  F(cuKernelGetFunction, (CUfunction * function, CUkernel kernel))                                 \
  F(cuFuncSetAttribute, (CUfunction function, int attribute, int value))                           \
  F(cuMemAlloc, (CUdeviceptr * address, size_t bytes))                                             \
  F(cuMemFree, (CUdeviceptr address))                                                              \
  F(cuMemHostAlloc, (void **memory, size_t bytes, unsigned flags))                                 \
  F(cuMemFreeHost, (void *memory))                                                                 \
  F(cuMemcpyHtoDAsync, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))          \
  F(cuMemcpyDtoHAsync, (void *to, CUdeviceptr from, size_t bytes, CUstream stream))                \
  F(cuMemcpyDtoDAsync, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))          \
  F(cuPointerGetAttribute, (void *value, int attribute, CUdeviceptr address))                      \
  F(cuStreamCreate, (CUstream * stream, unsigned flags))                                           \
  F(cuStreamDestroy, (CUstream stream))                                                            \
  F(cuStreamSynchronize, (CUstream stream))                                                        \
  F(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                           \
  F(cuEventCreate, (CUevent * event, unsigned flags))                                              \
  F(cuEventDestroy, (CUevent event))                                                               \
  F(cuEventRecord, (CUevent event, CUstream stream))                                               \
  F(cuEventSynchronize, (CUevent event))                                                           \
  F(cuEventElapsedTime, (float *milliseconds, CUevent begin, CUevent end))                         \
  F(cuLaunchKernel, (CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ,          \
                     unsigned blockX, unsigned blockY, unsigned blockZ, unsigned sharedBytes,      \
                     CUstream stream, void **parameters, void **extra))                            \
  F(cuGraphCreate, (CUgraph * graph, unsigned flags))                                              \
  F(cuGraphDestroy, (CUgraph graph))                                                               \
  F(cuGraphAddKernelNode, (CUgraphNode * node, CUgraph graph, const CUgraphNode *dependencies,     \
                           size_t numDependencies, const CUDA_KERNEL_NODE_PARAMS *parameters))     \
  F(cuGraphAddMemcpyNode, (CUgraphNode * node, CUgraph graph, const CUgraphNode *dependencies,     \
                           size_t numDependencies, const CUDA_MEMCPY3D *parameters,                \
                           CUcontext context))                                                     \
  F(cuGraphInstantiate, (CUgraphExec * exec, CUgraph graph, unsigned long long flags))             \
  F(cuGraphExecKernelNodeSetParams, (CUgraphExec exec, CUgraphNode node,                           \
                                     const CUDA_KERNEL_NODE_PARAMS *parameters))                   \
  F(cuGraphExecMemcpyNodeSetParams, (CUgraphExec exec, CUgraphNode node,                           \
                                     const CUDA_MEMCPY3D *parameters, CUcontext context))          \
  F(cuGraphExecDestroy, (CUgraphExec exec))                                                        \
  F(cuGraphLaunch, (CUgraphExec exec, CUstream stream))

/// The driver's functions by their names.
struct CudaApi {
#define LOWBIT_CUDA_FUNCTION(name, parameters) CUresult(*name) parameters = nullptr;
  LOWBIT_CUDA_FUNCTIONS(LOWBIT_CUDA_FUNCTION)
#undef LOWBIT_CUDA_FUNCTION
};

} // namespace lowbit::runtime::cuda

#endif // LOWBIT_LIB_RUNTIME_CUDAAPI_H
