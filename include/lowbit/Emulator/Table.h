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

#define LOWBIT_EMU_ABI 1

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
  LOWBIT_EMU_GLOBAL_READ,
  LOWBIT_EMU_GLOBAL_WRITE,
  LOWBIT_EMU_SHARED_READ,
  LOWBIT_EMU_SHARED_WRITE
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

/* The field order is ABI: compiled kernels index this table. */
typedef struct lowbit_emu_table_t {
  int64_t abi; /* LOWBIT_EMU_ABI */
  uint32_t (*special_register)(uint32_t which);
  /* The block's shared memory, 128-byte aligned. */
  void *(*shared_memory)(void);
  /* Stops the launch with an error where [address, address + bytes) is not in a buffer of that
   * space. */
  void (*check)(const void *address, uint64_t bytes, uint32_t access);
  void (*copy_async)(void *shared, const void *global, uint32_t bytes, uint32_t valid_bytes);
  void (*commit_group)(void);
  void (*wait_group)(uint32_t pending);
  void (*barrier)(uint32_t id);
  void (*warp_barrier)(uint32_t mask);
  /* ldmatrix .m8n8.b16, count 1, 2 or 4: result[i] is the lane's word of matrix i. */
  void (*load_matrix)(uint32_t *result, const void *row, uint32_t count, uint32_t transposed);
  /* mma m16n8k32: operands hold A (4 words), B (2) and C (4); signs from lowbit_emu_signs. */
  void (*mma_int8)(uint32_t *result, const uint32_t *operands, uint32_t signs);
  /* mma m16n8k16 of f16 into f32: A (4 words), B (2), C (4 floats). */
  void (*mma_half)(uint32_t *result, const uint32_t *operands);
  uint32_t (*shuffle)(uint32_t mask, uint32_t value, uint32_t lane, uint32_t control,
                      uint32_t kind);
  uint32_t (*lop3)(uint32_t a, uint32_t b, uint32_t c, uint32_t table);
  uint32_t (*permute)(uint32_t a, uint32_t b, uint32_t selector);
  uint32_t (*dot4)(uint32_t a, uint32_t b, uint32_t c, uint32_t signs);
  int32_t (*round_to_int)(float value);
  float (*function)(float value, uint32_t which);
  /* Does not return. */
  void (*trap)(void);
} lowbit_emu_table_t;

#ifdef __cplusplus
}
#endif
#endif /* LOWBIT_EMULATOR_TABLE_H */
