/*===- lowbit-c/Emulator.h - run CUDA kernels on the CPU ---------------*- C -*-===*
 *
 * Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
 * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
 *
 *===----------------------------------------------------------------------===*
 *
 * The whole interface of liblowbit-emulator. It runs the device code of
 * emulator.so as a GPU would, but in the order that hurts most: one fibre per
 * device thread, warps interleaved at random, asynchronous copies that land as
 * late as their waits allow, shared memory that starts as rubbish, and every
 * access checked against the buffers of the launch. It is for finding out
 * whether a kernel is right, not for speed.
 *
 *===----------------------------------------------------------------------===*/
#ifndef LOWBIT_C_EMULATOR_H
#define LOWBIT_C_EMULATOR_H

#include "lowbit-c/Runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lowbit_emulator lowbit_emulator;

/* Loads emulator.so. On success *out is to be closed with lowbit_emulator_close;
 * on failure *out is NULL. The file contains code: open only what you would execute. */
LOWBIT_API lowbit_status lowbit_emulator_open(const char *path, lowbit_emulator **out);
/* No launch may be in progress. NULL is allowed. */
LOWBIT_API void lowbit_emulator_close(lowbit_emulator *emulator);

typedef enum lowbit_emu_kind {
  LOWBIT_EMU_I32 = 0,  /* `value` */
  LOWBIT_EMU_I64 = 1,  /* `value` */
  LOWBIT_EMU_F32 = 2,  /* `value`: the float's 32 bits */
  LOWBIT_EMU_READ = 3, /* pointer to `bytes` readable bytes at `data` */
  LOWBIT_EMU_READ_WRITE = 4
} lowbit_emu_kind;

/* One parameter of a kernel. */
typedef struct lowbit_emu_argument {
  int32_t kind; /* lowbit_emu_kind */
  int32_t reserved;
  int64_t value;
  void *data;
  uint64_t bytes;
} lowbit_emu_argument;

typedef struct lowbit_emu_launch {
  uint32_t size; /* sizeof(lowbit_emu_launch), for versioning */
  uint32_t grid[3], block[3];
  uint32_t shared_bytes;
  uint64_t seed; /* of the order in which warps run; the same seed gives the same run */
} lowbit_emu_launch;

/* Runs the grid to its end on the calling thread. Several threads may launch at the same time.
 * LOWBIT_INVALID: no such kernel or an argument that does not fit; LOWBIT_INTERNAL: the kernel
 * is wrong (an access out of bounds, lanes or threads that wait for others in vain). */
LOWBIT_API lowbit_status lowbit_emulator_run(lowbit_emulator *emulator, const char *kernel,
                                             const lowbit_emu_launch *launch,
                                             const lowbit_emu_argument *arguments,
                                             size_t num_arguments);

/* The last failure on this thread, one line; never NULL. */
LOWBIT_API const char *lowbit_emulator_last_error(void);

#ifdef __cplusplus
}
#endif
#endif /* LOWBIT_C_EMULATOR_H */
