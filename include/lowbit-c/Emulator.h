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
 * late as their waits allow, blocks in any order, shared memory that starts as
 * rubbish. Every access is checked against the buffers of the launch and
 * against the accesses of other threads that no barrier puts in order. It is
 * for finding out whether a kernel is right, not for speed.
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
  LOWBIT_EMU_READ_WRITE = 4,
  /* As LOWBIT_EMU_READ, of bytes that no earlier kernel wrote: weights. A LOWBIT_EMU_DEPENDENT
   * launch may read them before it waits. */
  LOWBIT_EMU_CONSTANT = 5,
  /* `data` is a lowbit_emu_tensor_map, passed by value; `value` is LOWBIT_EMU_READ, _READ_WRITE or
   * _CONSTANT: what its tensor is. */
  LOWBIT_EMU_TENSOR_MAP = 6
} lowbit_emu_kind;

typedef enum lowbit_emu_swizzle {
  LOWBIT_EMU_SWIZZLE_NONE = 0,
  LOWBIT_EMU_SWIZZLE_32B = 1,
  LOWBIT_EMU_SWIZZLE_64B = 2,
  LOWBIT_EMU_SWIZZLE_128B = 3
} lowbit_emu_swizzle;

/* Stands for CUtensorMap, has its size and goes where it goes. Dimension 0 is the innermost one,
 * whose elements are contiguous. What is read outside of the tensor is 0. */
typedef struct lowbit_emu_tensor_map {
  void *base;
  uint32_t rank; /* 1 to 5 */
  uint32_t element_bytes;
  uint64_t strides[4]; /* in bytes, of dimensions 1 and above */
  uint32_t sizes[5];
  uint32_t box[5];  /* what one copy moves */
  uint32_t swizzle; /* lowbit_emu_swizzle */
  uint32_t reserved[9];
} lowbit_emu_tensor_map;

/* One parameter of a kernel. */
typedef struct lowbit_emu_argument {
  int32_t kind; /* lowbit_emu_kind */
  int32_t reserved;
  int64_t value;
  void *data;
  uint64_t bytes;
} lowbit_emu_argument;

/* Warp-level accesses to shared memory of one kind. */
typedef struct lowbit_emu_bank_statistics {
  uint64_t instructions; /* of warps */
  uint64_t ideal;        /* wavefronts if no two lanes met in a bank */
  uint64_t wavefronts;   /* with the conflicts there are */
  uint32_t worst_ways;   /* most distinct words of one bank in one wavefront: 1 is no conflict */
  uint32_t reserved;
} lowbit_emu_bank_statistics;

/* What a launch did. Set `size` before; what a later version adds stays untouched. */
typedef struct lowbit_emu_statistics {
  uint32_t size; /* sizeof(lowbit_emu_statistics), for versioning */
  uint32_t reserved;
  uint64_t blocks, barriers;                      /* barriers completed, of all blocks */
  uint64_t global_read_bytes, global_write_bytes; /* as asked for by threads, caches aside */
  lowbit_emu_bank_statistics loads, stores;       /* ld.shared, st.shared */
  lowbit_emu_bank_statistics matrix_loads;        /* ldmatrix */
  lowbit_emu_bank_statistics matrix_stores;       /* stmatrix */
  lowbit_emu_bank_statistics copies;              /* cp.async, into shared memory */
} lowbit_emu_statistics;

typedef enum lowbit_emu_flags {
  /* Launched while the kernel before may still run (programmatic dependent launch): touching memory
   * that is not constant before griddepcontrol.wait is an error. */
  LOWBIT_EMU_DEPENDENT = 1,
  /* Leaves races and reads of uninitialized shared memory unreported. */
  LOWBIT_EMU_NO_RACES = 2
} lowbit_emu_flags;

typedef struct lowbit_emu_launch {
  uint32_t size; /* sizeof(lowbit_emu_launch), for versioning; it may end after `seed` */
  uint32_t grid[3], block[3];
  uint32_t shared_bytes;
  uint64_t seed;  /* of the order in which blocks and warps run; the same seed gives the same run */
  uint32_t flags; /* lowbit_emu_flags */
  uint32_t reserved;                 /* 0 */
  lowbit_emu_statistics *statistics; /* NULL or where to put them, also of a failed launch */
} lowbit_emu_launch;

/* Runs the grid to its end on the calling thread. Several threads may launch at the same time.
 * LOWBIT_INVALID: no such kernel or an argument that does not fit; LOWBIT_INTERNAL: the kernel
 * is wrong (an access out of bounds, a race, lanes or threads that wait for others in vain). */
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
