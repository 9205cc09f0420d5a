/*===- lowbit-c/Runtime.h - run a compiled bundle ---------------------*- C -*-===*
 *
 * Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 *===----------------------------------------------------------------------===*
 *
 * The whole interface of liblowbit-runtime. A bundle is opened once and may then
 * be run from any number of threads at the same time. No function throws; each
 * returns a status, and lowbit_last_error() says in one line what happened and
 * what to do. A bundle contains machine code: its hashes detect damage, not
 * malice. Open only bundles that you would also execute.
 *
 *===----------------------------------------------------------------------===*/
#ifndef LOWBIT_C_RUNTIME_H
#define LOWBIT_C_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LOWBIT_RUNTIME_VERSION 1
#define LOWBIT_MAX_RANK 8

#if defined(_WIN32)
#define LOWBIT_API
#else
#define LOWBIT_API __attribute__((visibility("default")))
#endif

/* The numbers are the exit codes of the command-line tools. */
typedef enum lowbit_status {
  LOWBIT_OK = 0,
  LOWBIT_INVALID = 2,     /* bad argument, damaged bundle, wrong shape or dtype */
  LOWBIT_UNSUPPORTED = 3, /* made for another runtime version or processor */
  LOWBIT_NO_MEMORY = 4,
  LOWBIT_INTERNAL = 5,
  LOWBIT_UNAVAILABLE = 6 /* a device or driver is missing */
} lowbit_status;

/* The numbers are those of ONNX TensorProto.DataType. */
typedef enum lowbit_dtype {
  LOWBIT_F32 = 1,
  LOWBIT_U8 = 2,
  LOWBIT_I8 = 3,
  LOWBIT_U16 = 4,
  LOWBIT_I16 = 5,
  LOWBIT_I32 = 6,
  LOWBIT_I64 = 7,
  LOWBIT_BOOL = 9, /* one byte, 0 or 1 */
  LOWBIT_F16 = 10,
  LOWBIT_F64 = 11,
  LOWBIT_U32 = 12,
  LOWBIT_U64 = 13,
  LOWBIT_BF16 = 16,
  /* Each element in a byte of its own: an integer sign- or zero-extended, a float's bits at the low end. */
  LOWBIT_F8E4M3FN = 17,
  LOWBIT_F8E4M3FNUZ = 18,
  LOWBIT_F8E5M2 = 19,
  LOWBIT_F8E5M2FNUZ = 20,
  LOWBIT_U4 = 21,
  LOWBIT_I4 = 22,
  LOWBIT_F4E2M1 = 23,
  LOWBIT_F8E8M0 = 24,
  LOWBIT_U2 = 25,
  LOWBIT_I2 = 26,
  LOWBIT_F6E2M3 = 27,
  LOWBIT_F6E3M2 = 28
} lowbit_dtype;

typedef enum lowbit_device { LOWBIT_CPU = 0, LOWBIT_CUDA = 1 } lowbit_device;

/* A view of a tensor. The memory belongs to the caller, except where
 * lowbit_bundle_run filled a NULL `data` (see there). */
typedef struct lowbit_tensor {
  void *data;
  int32_t dtype; /* lowbit_dtype */
  int32_t rank;  /* 0 … LOWBIT_MAX_RANK */
  int64_t shape[LOWBIT_MAX_RANK];
  int64_t strides[LOWBIT_MAX_RANK]; /* in elements; may be 0 or negative */
  int32_t device;                   /* lowbit_device */
  int32_t owned; /* 1: allocated by the runtime; free with lowbit_tensor_release */
} lowbit_tensor;

/* One input or output of the model. Pointers live as long as the bundle. */
typedef struct lowbit_value_info {
  const char *name;
  int32_t dtype;
  int32_t rank;
  const int64_t *dims;        /* -1 where known only at run time */
  const char *const *symbols; /* "" or the name of a dynamic dimension */
} lowbit_value_info;

typedef struct lowbit_bundle lowbit_bundle;

typedef struct lowbit_open_options {
  uint32_t size;    /* sizeof(lowbit_open_options), for versioning */
  int32_t threads;  /* 0: one per core that this process may use */
  const char *isa;  /* NULL: the best this processor has. Or a kernel variant
                       listed in the manifest, e.g. "avx2", "avx512vnni" */
  const char *device; /* "cpu", "cuda:0" (the first GPU), "emulator" (runs the GPU's code
                         on the CPU, slowly, and checks it). NULL: what the bundle is for */
} lowbit_open_options;

LOWBIT_API uint32_t lowbit_runtime_version(void);

/* Opens the folder `path`. `options` may be NULL. On success *out is to be
 * closed with lowbit_bundle_close; on failure *out is NULL. */
LOWBIT_API lowbit_status lowbit_bundle_open(const char *path,
                                            const lowbit_open_options *options,
                                            lowbit_bundle **out);

/* No run may be in progress. NULL is allowed. */
LOWBIT_API void lowbit_bundle_close(lowbit_bundle *bundle);

/* Bytes of one element of a lowbit_dtype; 0 for other numbers. */
LOWBIT_API size_t lowbit_dtype_size(int32_t dtype);

LOWBIT_API size_t lowbit_bundle_num_inputs(const lowbit_bundle *bundle);
LOWBIT_API size_t lowbit_bundle_num_outputs(const lowbit_bundle *bundle);
/* NULL where the index is out of range. */
LOWBIT_API const lowbit_value_info *lowbit_bundle_input(const lowbit_bundle *bundle, size_t index);
LOWBIT_API const lowbit_value_info *lowbit_bundle_output(const lowbit_bundle *bundle, size_t index);

/* The text of manifest.json; lives as long as the bundle. */
LOWBIT_API const char *lowbit_bundle_manifest(const lowbit_bundle *bundle);

/* The kernel variant in use ("avx2", "avx512vnni", …); lives as long as the bundle. */
LOWBIT_API const char *lowbit_bundle_isa(const lowbit_bundle *bundle);

/* Runs the model once. `inputs` are in the order of the bundle's inputs, all of
 * them, with exactly their dtypes and shapes; equal symbols must be equal sizes.
 * For each output, `data` == NULL lets the runtime allocate (owned = 1); else the
 * result is copied into the caller's memory, whose dtype and shape must be the
 * result's. On failure no output is owned. Thread-safe.
 *
 * With a bundle on a GPU, an input may be that GPU's memory (`device` is LOWBIT_CUDA, row-major): it
 * is used in place, after what the legacy default stream has in progress. Bytes of a bool that are
 * neither 0 nor 1 are not detected then. An output whose `device` is LOWBIT_CUDA stays on the GPU,
 * in the caller's memory, or for `data` == NULL in the runtime's. All is done on return. */
LOWBIT_API lowbit_status lowbit_bundle_run(lowbit_bundle *bundle, const lowbit_tensor *inputs,
                                           size_t num_inputs, lowbit_tensor *outputs,
                                           size_t num_outputs);

/* Copies `bytes` bytes from the start of a tensor that the runtime keeps on a GPU to the host. */
LOWBIT_API lowbit_status lowbit_tensor_read(const lowbit_tensor *tensor, void *data, size_t bytes);

/* A DLManagedTensor (dlpack.h) over such a tensor, which shares its memory: that lives until
 * lowbit_tensor_release and the DLManagedTensor's deleter have both been called. `ordinal`: the number
 * of the GPU. All work on the tensor is done. */
LOWBIT_API lowbit_status lowbit_tensor_to_dlpack(const lowbit_tensor *tensor, int32_t ordinal,
                                                 void **managed);
/* The destructor of a Python capsule called "dltensor" that holds a DLManagedTensor. */
LOWBIT_API void lowbit_dlpack_capsule_destructor(void *capsule);

/* The launches of a bundle for a device are planned once for each set of input shapes. */
typedef struct lowbit_plan_info {
  uint32_t size; /* sizeof(lowbit_plan_info), for versioning */
  uint32_t reserved;
  int64_t steps;        /* kernel launches and copies */
  int64_t arena_bytes;  /* of all buffers between inputs and results, which share memory */
  int64_t buffer_bytes; /* what these would take without sharing */
} lowbit_plan_info;

/* The plan that was used last. LOWBIT_UNAVAILABLE where no run was planned. Thread-safe. */
LOWBIT_API lowbit_status lowbit_bundle_plan(lowbit_bundle *bundle, lowbit_plan_info *info);

/* Milliseconds that a GPU takes for one run, without copies from and to the host: the mean over
 * `repetitions` runs, one right after the other. Inputs as for lowbit_bundle_run. LOWBIT_UNAVAILABLE
 * where runs are not planned or the device is no GPU. */
LOWBIT_API lowbit_status lowbit_bundle_time(lowbit_bundle *bundle, const lowbit_tensor *inputs,
                                            size_t num_inputs, int64_t repetitions,
                                            double *milliseconds);

/* Frees data that the runtime allocated and sets it to NULL; else does nothing. */
LOWBIT_API void lowbit_tensor_release(lowbit_tensor *tensor);

/* The last failure on this thread, one line; never NULL. */
LOWBIT_API const char *lowbit_last_error(void);

#ifdef __cplusplus
}
#endif
#endif /* LOWBIT_C_RUNTIME_H */
