/*===- lowbit-c/Model.h - what model.so and the runtime owe each other -*- C -*-===*
 *
 * Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 *===----------------------------------------------------------------------===*
 *
 * model.so needs nothing but libc and libm. It exports the three symbols below;
 * memory, threads and observers reach it through the callback table. The dialect
 * `lowbit_rt` mirrors this file. All state of model.so is written once, by
 * lowbit_model_init; runs may overlap afterwards.
 *
 *===----------------------------------------------------------------------===*/
#ifndef LOWBIT_C_MODEL_H
#define LOWBIT_C_MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LOWBIT_MODEL_ABI 3

/* Does tasks [begin, end). */
typedef void (*lowbit_task)(void *argument, int64_t begin, int64_t end);

/* The field order is ABI: generated code indexes this table. */
typedef struct lowbit_callbacks {
  /* Never returns NULL to the model: on exhaustion the runtime unwinds the run. */
  void *(*alloc)(int64_t bytes, int64_t alignment);
  void (*free)(void *pointer);
  /* Returns when body has done all of [0, tasks), each task exactly once, split in
   * any way over any threads. */
  void (*parallel_for)(int64_t tasks, lowbit_task body, void *argument);
  /* One observed tensor: row-major float32 of shape[0] x … x shape[rank - 1] values. */
  void (*observe)(int64_t id, const float *data, int64_t rank, const int64_t *shape);
  /* A run-time check failed (index out of range, shapes that do not fit). Does not return: the
   * runtime unwinds the run, and lowbit_bundle_run returns LOWBIT_INVALID with the message. */
  void (*fail)(const char *message);
  /* One tensor that the caller of the run may change: row-major float32, `dims[rank]`. */
  void (*exchange)(int64_t id, float *data, int64_t rank, const int64_t *dims);
  /* What follows is called by bundles for a device alone, in one order on one thread: the device
   * sees it in that order, after the call has returned perhaps. */
  /* An address on the device, 256-byte aligned; the model never reads or writes there itself. */
  void *(*device_alloc)(int64_t bytes);
  void (*device_free)(void *address);
  /* Between host and device, or within the device. Where `to` is the host's, the bytes are there
   * when the call returns; where `from` is, it may change afterwards. */
  void (*transfer)(void *to, const void *from, int64_t bytes);
  /* Kernel number `kernel` of the manifest's list. `shape`: blocks along x, y, z; threads of a
   * block along x, y, z; bytes of dynamic shared memory. `arguments[count]`: each the kernel's
   * parameter in its low bytes: a number, or the address of device memory, of a weight, or within an
   * input. */
  void (*enqueue)(int64_t kernel, const int64_t *shape, const int64_t *arguments, int64_t count);
} lowbit_callbacks;

/* A row-major tensor as MLIR passes it: struct { void *allocated, *aligned;
 * int64_t offset; int64_t sizes[rank]; int64_t strides[rank]; }. */

/* int64_t lowbit_model_abi(void)
 *   LOWBIT_MODEL_ABI of the compiler.
 * void lowbit_model_init(const lowbit_callbacks *table, const void *weights, int64_t isa)
 *   `weights`: start of the data section of weights.safetensors, 64-byte aligned;
 *   `isa`: index into the manifest's "isa" list. Called once, before any run.
 * void lowbit_model_run(void *const *inputs, void *results)
 *   `inputs[i]`: descriptor of input i, read only. `results`: the descriptors of all
 *   outputs, one after the other without padding; each `allocated` came from `alloc`
 *   and is now the runtime's to free. */

#ifdef __cplusplus
}
#endif
#endif /* LOWBIT_C_MODEL_H */
