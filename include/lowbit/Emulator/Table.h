//===- Table.h - what emulated device code calls ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// emulator.so is the device code of a bundle's kernels, compiled for the CPU. Each device
// instruction that has no CPU counterpart became a call through the table below; `lowbit_emu_table`
// in emulator.so points to it and is set by liblowbit-emulator when it opens the file. Besides,
// emulator.so exports
//   const int64_t lowbit_emu_abi               LOWBIT_EMU_ABI of the compiler
// and for each kernel K
//   const int32_t lowbit_emu_parameters_K      how many parameters it has
//   void lowbit_emu_kernel_K(void *const *p)   p[i] points to the i-th parameter
// which runs one device thread and is called on that thread's own stack.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_EMULATOR_TABLE_H
#define LOWBIT_EMULATOR_TABLE_H

#include <stdint.h>

#define LOWBIT_EMU_ABI 2

#ifdef __cplusplus
extern "C" {
#endif

enum lowbit_emu_register {
  LOWBIT_EMU_TID_X,
  LOWBIT_EMU_TID_Y,
  LOWBIT_EMU_TID_Z,
  LOWBIT_EMU_NTID_X,
  LOWBIT_EMU_NTID_Y,
  LOWBIT_EMU_NTID_Z,
  LOWBIT_EMU_CTAID_X,
  LOWBIT_EMU_CTAID_Y,
  LOWBIT_EMU_CTAID_Z,
  LOWBIT_EMU_NCTAID_X,
  LOWBIT_EMU_NCTAID_Y,
  LOWBIT_EMU_NCTAID_Z,
  LOWBIT_EMU_LANEID
};

enum lowbit_emu_access {
  LOWBIT_EMU_READ_ACCESS = 0,
  LOWBIT_EMU_WRITE_ACCESS = 1,
  LOWBIT_EMU_ATOMIC_ACCESS = 2, /* a read-modify-write that no other atomic access races with */
  LOWBIT_EMU_ACCESS_MASK = 3,
  /* The address space. Flat addresses may be those of either, or of the thread's stack. */
  LOWBIT_EMU_GLOBAL = 0,
  LOWBIT_EMU_SHARED = 4,
  LOWBIT_EMU_FLAT = 8,
  LOWBIT_EMU_SPACE_MASK = 12,
  LOWBIT_EMU_ORDERED = 16,   /* an atomic that also acquires and releases */
  LOWBIT_EMU_UNALIGNED = 32, /* a sequence of bytes, not one access of that width */

  LOWBIT_EMU_GLOBAL_READ = LOWBIT_EMU_GLOBAL | LOWBIT_EMU_READ_ACCESS,
  LOWBIT_EMU_GLOBAL_WRITE = LOWBIT_EMU_GLOBAL | LOWBIT_EMU_WRITE_ACCESS,
  LOWBIT_EMU_SHARED_READ = LOWBIT_EMU_SHARED | LOWBIT_EMU_READ_ACCESS,
  LOWBIT_EMU_SHARED_WRITE = LOWBIT_EMU_SHARED | LOWBIT_EMU_WRITE_ACCESS
};

enum lowbit_emu_function {
  LOWBIT_EMU_EX2,
  LOWBIT_EMU_LG2,
  LOWBIT_EMU_RCP,
  LOWBIT_EMU_RSQRT,
  LOWBIT_EMU_SQRT,
  LOWBIT_EMU_SIN,
  LOWBIT_EMU_COS,
  LOWBIT_EMU_TANH
};

/* The signs of the operands of an int8 multiplication. */
enum lowbit_emu_signs { LOWBIT_EMU_UNSIGNED_A = 1, LOWBIT_EMU_UNSIGNED_B = 2 };

enum lowbit_emu_shuffle {
  LOWBIT_EMU_SHUFFLE_IDX,
  LOWBIT_EMU_SHUFFLE_UP,
  LOWBIT_EMU_SHUFFLE_DOWN,
  LOWBIT_EMU_SHUFFLE_BFLY
};

/* Votes give a bit per lane of the mask, or all, any, uniform as 0 or 1. */
enum lowbit_emu_vote {
  LOWBIT_EMU_VOTE_BALLOT,
  LOWBIT_EMU_VOTE_ALL,
  LOWBIT_EMU_VOTE_ANY,
  LOWBIT_EMU_VOTE_UNIFORM
};

enum lowbit_emu_reduction {
  LOWBIT_EMU_REDUCE_ADD,
  LOWBIT_EMU_REDUCE_MIN,
  LOWBIT_EMU_REDUCE_MAX,
  LOWBIT_EMU_REDUCE_UMIN,
  LOWBIT_EMU_REDUCE_UMAX,
  LOWBIT_EMU_REDUCE_AND,
  LOWBIT_EMU_REDUCE_OR,
  LOWBIT_EMU_REDUCE_XOR
};

enum lowbit_emu_barrier_reduction {
  LOWBIT_EMU_BARRIER_POPC,
  LOWBIT_EMU_BARRIER_AND,
  LOWBIT_EMU_BARRIER_OR
};

/* Of an mma on 16-bit floats. */
enum lowbit_emu_half_mma {
  LOWBIT_EMU_MMA_BF16 = 1,    /* A and B are bfloat16, not f16 */
  LOWBIT_EMU_MMA_F16_SUM = 2, /* C and D are two words of f16 pairs, not four f32 */
  LOWBIT_EMU_MMA_K8 = 4       /* k is 8, not 16 */
};

enum lowbit_emu_fence {
  LOWBIT_EMU_FENCE_BLOCK,
  LOWBIT_EMU_FENCE_DEVICE,     /* and wider */
  LOWBIT_EMU_FENCE_ASYNC_PROXY /* what was written normally is seen by TMA and wgmma */
};

/* How a float becomes an integer of `bits` bits, saturating; NaN becomes 0. */
enum lowbit_emu_rounding {
  LOWBIT_EMU_ROUND_NEAREST_EVEN,
  LOWBIT_EMU_ROUND_DOWN,
  LOWBIT_EMU_ROUND_UP,
  LOWBIT_EMU_ROUND_ZERO
};

enum lowbit_emu_object_wait {
  LOWBIT_EMU_WAIT_PARITY = 1, /* `phase` is a parity, else what arriving gave */
  LOWBIT_EMU_WAIT_TEST = 2    /* does not block */
};

/* A warpgroup's multiplication: n in the low 16 bits, one of these kinds, flags. */
enum lowbit_emu_warpgroup {
  LOWBIT_EMU_WGMMA_S8 = 0 << 16,  /* k = 32, signs below; sums are s32 */
  LOWBIT_EMU_WGMMA_F16 = 1 << 16, /* k = 16; sums are f32 */
  LOWBIT_EMU_WGMMA_BF16 = 2 << 16,
  LOWBIT_EMU_WGMMA_KIND_MASK = 3 << 16,
  LOWBIT_EMU_WGMMA_UNSIGNED_A = 1 << 18,
  LOWBIT_EMU_WGMMA_UNSIGNED_B = 1 << 19,
  LOWBIT_EMU_WGMMA_A_REGISTERS = 1 << 20,
  LOWBIT_EMU_WGMMA_TRANSPOSED_A = 1 << 21, /* the operand's other dimension than k is contiguous */
  LOWBIT_EMU_WGMMA_TRANSPOSED_B = 1 << 22,
  LOWBIT_EMU_WGMMA_NEGATED_A = 1 << 23,
  LOWBIT_EMU_WGMMA_NEGATED_B = 1 << 24,
  LOWBIT_EMU_WGMMA_ACCUMULATES = 1 << 25 /* else the sums start at 0 */
};

/* The field order is ABI: compiled kernels index this table. */
typedef struct lowbit_emu_table_t {
  int64_t abi; /* LOWBIT_EMU_ABI */
  uint32_t (*special_register)(uint32_t which);
  /* The block's shared memory, 128-byte aligned. */
  void *(*shared_memory)(void);
  /* Comes before each access; `access` from lowbit_emu_access. Stops the launch with an error where
   * [address, address + bytes) is not in a buffer of that space, or races with another access. */
  void (*check)(const void *address, uint64_t bytes, uint32_t access);
  void (*copy_async)(void *shared, const void *global, uint32_t bytes, uint32_t valid_bytes);
  void (*commit_group)(void);
  void (*wait_group)(uint32_t pending);
  /* bar.sync and bar.arrive: `count` threads meet there, all of the block where it is 0. */
  void (*barrier)(uint32_t id, uint32_t count, uint32_t arrive_only);
  uint32_t (*barrier_reduce)(uint32_t id, uint32_t count, uint32_t value, uint32_t kind);
  void (*warp_barrier)(uint32_t mask);
  void (*fence)(uint32_t kind);
  /* ldmatrix .m8n8.b16, count 1, 2 or 4: result[i] is the lane's word of matrix i. */
  void (*load_matrix)(uint32_t *result, const void *row, uint32_t count, uint32_t transposed);
  /* mma m16n8k32: operands hold A (4 words), B (2) and C (4); signs from lowbit_emu_signs. */
  void (*mma_int8)(uint32_t *result, const uint32_t *operands, uint32_t signs);
  /* mma m16n8k16 and m16n8k8: A (4 or 2 words), B (2 or 1), C (4 or 2); `kind` from
   * lowbit_emu_half_mma. */
  void (*mma_half)(uint32_t *result, const uint32_t *operands, uint32_t kind);
  /* stmatrix .m8n8.b16: the inverse of load_matrix. */
  void (*store_matrix)(const uint32_t *words, void *row, uint32_t count, uint32_t transposed);
  /* `within`, where it is not NULL, becomes 1 where the source lane is in range, else 0. */
  uint32_t (*shuffle)(uint32_t mask, uint32_t value, uint32_t lane, uint32_t control, uint32_t kind,
                      uint32_t *within);
  uint32_t (*vote)(uint32_t mask, uint32_t predicate, uint32_t kind);
  /* The lanes of the mask with the same value; with `all`, the mask or 0. */
  uint32_t (*match)(uint32_t mask, uint64_t value, uint32_t all);
  uint32_t (*reduce)(uint32_t mask, uint32_t value, uint32_t kind);
  uint32_t (*active_mask)(void);
  /* Whether this is the lane that elect.sync chooses; *leader is that lane. */
  uint32_t (*elect)(uint32_t mask, uint32_t *leader);
  void (*grid_dependency_wait)(void);
  uint32_t (*lop3)(uint32_t a, uint32_t b, uint32_t c, uint32_t table);
  uint32_t (*permute)(uint32_t a, uint32_t b, uint32_t selector);
  uint32_t (*dot4)(uint32_t a, uint32_t b, uint32_t c, uint32_t signs);
  int64_t (*round_to_int)(double value, uint32_t rounding, uint32_t bits, uint32_t is_unsigned);
  float (*function)(float value, uint32_t which);
  /* Does not return. */
  void (*trap)(void);

  /* mbarrier objects in shared memory; their state is kept beside. Arriving gives the phase to wait
   * for. */
  void (*object_init)(void *object, uint32_t count);
  void (*object_invalidate)(void *object);
  uint64_t (*object_arrive)(void *object, uint32_t count, uint32_t bytes);
  void (*object_expect)(void *object, uint32_t bytes);
  /* Whether the phase has ended; `kind` from lowbit_emu_object_wait. */
  uint32_t (*object_wait)(void *object, uint64_t phase, uint32_t kind);

  /* Copies by the engine, into shared memory (an object then counts their bytes) or out of it (in
   * groups of the thread). Tensors are given by a lowbit_emu_tensor_map; the first of `rank`
   * coordinates is the innermost. */
  void (*bulk_load)(void *shared, const void *global, uint32_t bytes, void *object);
  void (*bulk_store)(void *global, const void *shared, uint32_t bytes);
  void (*tensor_load)(void *shared, const void *map, const uint32_t *at, uint32_t rank,
                      void *object);
  void (*tensor_store)(const uint32_t *at, const void *map, const void *shared, uint32_t rank);
  void (*bulk_commit)(void);
  void (*bulk_wait)(uint32_t pending, uint32_t only_reads);

  void (*warpgroup_fence)(void);
  void (*warpgroup_commit)(void);
  void (*warpgroup_wait)(uint32_t pending);
  /* Adds to this lane's n / 2 words of sums; a: 4 words, or NULL. Gives the ticket of these sums,
   * which must not be used before they are waited for. */
  uint32_t (*warpgroup_multiply)(uint32_t *sums, const uint32_t *a, uint64_t a_descriptor,
                                 uint64_t b_descriptor, uint32_t shape);
  void (*warpgroup_use)(uint32_t ticket);
} lowbit_emu_table_t;

#ifdef __cplusplus
}
#endif
#endif /* LOWBIT_EMULATOR_TABLE_H */
